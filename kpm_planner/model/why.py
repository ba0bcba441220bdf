"""Reasons as values: why something is asked of a CPU, an entry or a zone.

A reason reads, compares and is written as its text; what it is the reason of and who asked for it
stand beside the text, so that nobody has to take English apart.
"""

from typing import Self


class Why(str):
    """One reason in words.

    setting: the field of Target whose value it explains, "" for the target as a whole. object and
    field: who asked, as Kind/name, and where in it; "" where nobody did.
    """

    __slots__ = ("field", "object", "setting")

    setting: str
    object: str
    field: str

    def __new__(
        cls,
        text: str,
        *,
        setting: str = "",
        object: str = "",  # noqa: A002
        field: str = "",
    ) -> Self:
        self = str.__new__(cls, text)
        self.setting, self.object, self.field = setting, object, field
        return self

    def __add__(self, more: str) -> "Why":
        return Why(f"{self}{more}", setting=self.setting, object=self.object, field=self.field)
