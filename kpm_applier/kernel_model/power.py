"""What the kernel model's files show of power: zones of RAPL, the cap of amd_hsmp_hwmon, and the
mailbox as files.

RAPL keeps a limit in steps of 1/8 W and in 15 bits: it rounds down, and 4096 W becomes 0 (kernel,
intel_rapl); a locked zone refuses limits with ENODATA and its switch with ENOSYS. The other zones
round to mW and keep to their maximum.
"""

import errno
from collections.abc import Mapping

from attrs import define, field

from kpm_applier.attributes import DF_PSTATE, HSMP_ROOT
from kpm_applier.kernel_model.paths import add_folder
from kpm_applier.kernel_model.texts import fail, parse_integer, parse_switch
from kpm_planner.model.machine import Fabric, Machine, PowerLimit, PowerZone

_UNIT_UW, _MASK = 125_000, 0x7FFF
_LONGEST = 16
_AUTOMATIC = "auto"


@define
class PowerFiles:
    """Zones and fabrics of one machine. limits: path → µW. locked: folders of zones whose firmware
    refuses limits.
    """

    limits: dict[str, int] = field(factory=dict)
    switches: dict[str, bool] = field(factory=dict)
    pstates: dict[str, str] = field(factory=dict)
    locked: set[str] = field(factory=set)
    _zones: dict[str, PowerZone] = field(factory=dict)
    _fabrics: dict[str, Fabric] = field(factory=dict)
    _folders: dict[str, set[str]] = field(factory=dict)

    @classmethod
    def of(cls, machine: Machine) -> "PowerFiles":
        """The files of a machine."""
        made = cls()
        for zone in machine.power_zones:
            made._zones[zone.id] = zone
            add_folder(made._folders, zone.id)
            made.limits.update(
                {f"{zone.id}/{limit.file}": limit.limit_uw or 0 for limit in zone.limits}
            )
            if zone.enabled is not None:
                made.switches[f"{zone.id}/enabled"] = zone.enabled
        for fabric in machine.fabrics:
            folder = f"{HSMP_ROOT}/socket{fabric.package}"
            made._fabrics[folder] = fabric
            add_folder(made._folders, folder)
            made.pstates[f"{folder}/{DF_PSTATE.file}"] = fabric.pstates
        return made

    def names(self, path: str) -> tuple[str, ...]:
        """Names in a folder; none where there is no such folder."""
        return tuple(sorted(self._folders.get(path, ())))

    def knows(self, path: str) -> bool:
        """Whether a path lies in a folder of a zone or fabric."""
        folder = path.rpartition("/")[0]
        return folder in self._zones or folder in self._fabrics

    def read(self, path: str) -> str:
        """A file. Errors: OSError."""
        folder, _, name = path.rpartition("/")
        if path in self.pstates:
            return self.pstates[path]
        if (
            name == "protocol"
            and folder in self._fabrics
            and self._fabrics[folder].protocol is not None
        ):
            return str(self._fabrics[folder].protocol)
        zone = self._zones.get(folder)
        if zone is None:
            raise fail(errno.ENOENT, path)
        if path in self.limits:
            return str(self.limits[path] // 1000 if zone.control == "hsmp" else self.limits[path])
        if path in self.switches:
            return "1" if self.switches[path] and folder not in self.locked else "0"
        if name == "name":
            return zone.name if zone.control == "intel-rapl" else zone.control
        return self._read_limit(zone, name, path)

    def _read_limit(self, zone: PowerZone, name: str, path: str) -> str:
        tops = {_top_file(limit): limit.max_uw for limit in zone.limits}
        windows = {
            limit.file.replace("power_limit_uw", "time_window_us"): limit.window_us
            for limit in zone.limits
        }
        if name != "power1_cap" and windows.get(name):
            return str(windows[name])
        names = {limit.file.replace("power_limit_uw", "name"): limit.name for limit in zone.limits}
        if name in names:
            return names[name]
        top = tops.get(name)
        if top is None:
            raise fail(errno.ENODATA if name in tops else errno.ENOENT, path)
        return str(top // 1000 if zone.control == "hsmp" else top)

    def write(self, path: str, text: str) -> None:
        """Hand a text to a file. Errors: OSError."""
        folder = path.rpartition("/")[0]
        if path in self.pstates:
            self._write_fabric(path, text)
        elif path in self.switches:
            on = parse_switch(text, path)
            if folder in self.locked:
                raise fail(errno.ENOSYS, path)
            self.switches[path] = on
        elif path in self.limits:
            value = parse_integer(text, path)
            if folder in self.locked:
                raise fail(errno.ENODATA, path)
            self.limits[path] = self._kept(self._zones[folder], value)
        else:
            self.read(path)  # ENOENT where there is no such file
            raise fail(errno.EACCES, path)

    def _kept(self, zone: PowerZone, value: int) -> int:
        """What a limit becomes, µW. value: as the file takes it, mW in the mailbox's files."""
        if zone.control == "intel-rapl":
            return (value // _UNIT_UW & _MASK) * _UNIT_UW
        uw = value * 1000 if zone.control == "hsmp" else value // 1000 * 1000
        return min(uw, zone.limits[0].max_uw or uw)

    def _write_fabric(self, path: str, text: str) -> None:
        words = text.split()
        if len(text) > _LONGEST or not (
            words == [_AUTOMATIC]
            or (len(words) in (1, 2) and all(word.isdigit() for word in words))
        ):
            raise fail(errno.EINVAL, path)
        self.pstates[path] = " ".join(words)


def _top_file(limit: PowerLimit) -> str:
    return {"power1_cap": "power1_cap_max", "power_limit_mw": "power_limit_max_mw"}.get(
        limit.file
    ) or limit.file.replace("power_limit_uw", "max_power_uw")


def shown_limits(files: PowerFiles, zone: PowerZone) -> Mapping[str, int]:
    """Name of each limit of a zone → µW."""
    return {limit.name: files.limits[f"{zone.id}/{limit.file}"] for limit in zone.limits}
