"""Using the trained network: classifying images and exporting it for other programs."""
