"""The version of this distribution, without reading metadata: `apflow --version` must cost nothing."""

VERSION = "0.1.0"
