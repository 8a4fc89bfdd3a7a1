"""The trained network at work: classifying images, and exported for other programs."""
