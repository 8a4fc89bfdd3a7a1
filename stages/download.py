"""Stage download: get the archive that data.urls and data.md5 name."""

from alexnet.archive.download import download
from stages import params, paths


def main() -> None:
    config = params.read()
    data = config.data
    if config.train.initial_weights:  # a wrong path is reported before the download, not after it
        paths.initial_weights(config.train.initial_weights)
    download(
        data.urls,
        paths.ARCHIVE,
        data.md5,
        data.train_images,
        data.test_images,
        paths.workspace(),
        config.run.minimum_download_rate,
    )
