"""The shapes of a loop's files, as they are listed, and as they are put."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator

from ..loops.errors import InvalidParameter
from ..loops.ports.files import UploadPart
from .schemas import ApiModel, PageQuery, Text, Timestamp, whole_number

UPLOAD_ID = "^[A-Za-z0-9_-]{1,64}$"
SIZE_LIMIT = 1 << 50
"""More than any disk has; the real limit is the administrator's."""


class FileView(ApiModel):
    """One name in a loop's workdir."""

    name: str
    path: str | None = Field(
        description="From the workdir on. `null` where the name is not UTF-8: rename it inside."
    )
    type: Literal["file", "directory", "folder", "symlink", "other"] = Field(
        description="`folder`: a folder of the Jupyter server that the loop was created with; its "
        "files are read and written there. `other`: a pipe, a socket or a device."
    )
    size: int | None = Field(description="Bytes, of a `file` alone.")
    modified: Timestamp | None


class FileList(ApiModel):
    """A page of a directory, in the order of the names' bytes."""

    path: str
    data: list[FileView]
    has_more: bool
    last_id: str | None = Field(description="What `after` takes for the next page.")
    truncated: bool = Field(
        description="The directory has more names than are looked at (100,000)."
    )


class FileReceivedView(ApiModel):
    """What there is of a file after a request that put it, or a part of it."""

    model_config = ConfigDict(title="FileReceived")

    path: str
    received: int = Field(description="Bytes so far; where the next part begins.")
    size: int = Field(description="Bytes of the whole.")
    complete: bool
    file: FileView | None = Field(description="Once it is complete.")


class FilesQuery(PageQuery):
    path: Text = ""


class PutQuery(ApiModel):
    """All three or none of them."""

    upload: str | None = Field(default=None, pattern=UPLOAD_ID)
    offset: int | None = Field(default=None, ge=0, le=SIZE_LIMIT)
    size: int | None = Field(default=None, ge=0, le=SIZE_LIMIT)

    @field_validator("offset", "size", mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        return whole_number(value, digits=16)

    def part(self) -> UploadPart | None:
        """Raises ``InvalidParameter`` where one of the three is missing."""
        given = (self.upload, self.offset, self.size)
        if all(one is None for one in given):
            return None
        if self.upload is None or self.offset is None or self.size is None:
            raise InvalidParameter("A part of a file needs upload, offset and size.")
        return UploadPart(self.upload, self.offset, self.size)
