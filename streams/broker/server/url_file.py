"""A URL in a file, for passwords that change while a program runs."""

from __future__ import annotations

from pathlib import Path

from streams.errors import ConfigurationError


class URLFile:
    """A file that holds a URL, read for each connection: its password may change meanwhile.

    Args:
        path: of the file.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def read(self) -> str:
        """The URL.

        Raises:
            ConfigurationError: the file cannot be read, or is empty. The message has neither its
                text nor its path, which may be a URL by mistake.
        """
        try:
            url = Path(self._path).read_text("utf-8").strip()
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"the file of the URL cannot be read ({type(error).__name__})"
            ) from None

        if not url:
            raise ConfigurationError("the file of the URL is empty")

        return url
