"""The same findings for readers that know neither Segmentation nor Structured Report."""
