"""The scaler over real sockets and files: what it sets, and what each fault of a peer, a file or a
policy costs.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpm.scaler import sockets
from kpm.scaler.peers import Peer, Peers
from kpm.scaler.telemetry import _LONGEST, Telemetry, TelemetryError
from tests.scaler.dpdk_server import NAME, DpdkServer, bind
from tests.scaler.rig import HIGH, LOW, OTHER, PERIOD, UID, Rig, domain


def busy(server: DpdkServer, rig: Rig, *shares: int) -> None:
    """From now on each lcore is busy for such a share of its time."""
    server.counters = lambda lcore: (rig.time_us * 1000, rig.time_us * 10 * shares[lcore])


def settled(rig: Rig, cpu: int, speed: int) -> None:
    """A domain reaches a speed within a few periods."""
    for _ in range(60):
        rig.tick()
        if rig.speed(cpu) == speed:
            return
    raise AssertionError(f"CPU {cpu} has {rig.speed(cpu)}, not {speed}")


def test_a_domain_follows_the_lcore_that_runs_on_its_cpu(rig: Rig, dpdk: DpdkServer) -> None:
    """And not the lcore of that number: full load goes up to the maximum, none down to the minimum
    (field report 31).
    """
    busy(dpdk, rig, 100, 0)
    rig.scaler.configure([domain(4), domain(5)])
    settled(rig, 4, HIGH)
    settled(rig, 5, LOW)
    assert rig.speed(0) is rig.speed(1) is None
    busy(dpdk, rig, 0, 100)
    settled(rig, 4, LOW)
    settled(rig, 5, HIGH)


@pytest.mark.parametrize("prefix", ["rte", "trex", "my app"])
def test_any_file_prefix_is_found_and_two_processes_of_a_pod_as_well(rig: Rig, prefix: str) -> None:
    """Each with its own lcores (field reports 29, 31)."""
    first = DpdkServer(rig.root, UID, {7: [4]}, prefix).start()
    second = DpdkServer(rig.root, UID, {7: [5]}, "second").start()
    for server in (first, second):
        server.counters = lambda _lcore: (rig.time_us * 1000, rig.time_us * 1000)
    rig.scaler.configure([domain(4), domain(5)])
    settled(rig, 4, HIGH)
    settled(rig, 5, HIGH)
    first.stop()
    second.stop()


def test_without_telemetry_a_domain_has_its_fall_back(rig: Rig) -> None:
    """From the first tick on, and nothing is written again while nothing comes."""
    rig.scaler.configure([domain(4, fallback=50), domain(5, uid="")])
    rig.tick()
    assert (rig.speed(4), rig.speed(5)) == (2_000_000, LOW)
    before = rig.file(4).stat().st_mtime_ns
    rig.tick(20)
    assert rig.file(4).stat().st_mtime_ns == before


FAULTS = {
    "closes": b"",
    "silent": None,
    "half an answer": b'{"/eal/lcore/usage": {"lcore_ids": [0, 1], "total_cy',
    "no JSON": b"\xff\xfe\x00",
    "no object": b"[1, 2]",
    "lists of unequal length": (
        b'{"/eal/lcore/usage": {"lcore_ids": [0], "total_cycles": [1, 2], "busy_cycles": []}}'
    ),
    "negative": (
        b'{"/eal/lcore/usage": {"lcore_ids": [0], "total_cycles": [-1], "busy_cycles": [0]}}'
    ),
    "texts": (
        b'{"/eal/lcore/usage": {"lcore_ids": ["0"], "total_cycles": ["1"], "busy_cycles": ["1"]}}'
    ),
    "deep": b'{"/eal/lcore/usage": ' + b"[" * 60_000,
    "too long": b'{"/eal/lcore/usage": "' + b"x" * (_LONGEST + 10) + b'"}',
    "too many": (
        json.dumps(
            {
                "/eal/lcore/usage": {
                    key: list(range(2000)) for key in ("lcore_ids", "total_cycles", "busy_cycles")
                }
            }
        ).encode()
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_peer_that_fails_leads_to_the_fall_back_and_back(
    rig: Rig, dpdk: DpdkServer, fault: str
) -> None:
    """Within two periods and the cool-down (field report 30); when it is well again its load counts
    again.
    """
    busy(dpdk, rig, 100, 100)
    rig.scaler.configure([domain(4)])
    settled(rig, 4, HIGH)
    usual = dpdk.answer
    dpdk.answer = lambda _question: FAULTS[fault]
    rig.tick(5)
    assert rig.speed(4) == LOW
    dpdk.answer = usual
    rig.tick(1, 10_000_000)
    rig.tick(1, 10_000_000)
    settled(rig, 4, HIGH)


def test_a_process_that_starts_again_has_counters_at_zero(rig: Rig, dpdk: DpdkServer) -> None:
    """No sample until two looks at the new ones; the connection is made anew."""
    busy(dpdk, rig, 100, 100)
    rig.scaler.configure([domain(4)])
    settled(rig, 4, HIGH)
    dpdk.stop()
    zero = rig.time_us
    dpdk.counters = lambda _lcore: ((rig.time_us - zero) * 1000, 0)
    dpdk.start()
    settled(rig, 4, LOW)
    rig.tick_until(lambda: dpdk.connections == 2)
    rig.tick(5)
    assert rig.speed(4) == LOW


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            b'{"/eal/lcore/usage": {"lcore_ids": [], "total_cycles": [], "busy_cycles": []}}',
            "no-usage-callback",
        ),
        (b'{"/eal/lcore/usage": null}', "too-old"),
    ],
)
def test_a_program_without_counters_is_told_apart(
    rig: Rig, dpdk: DpdkServer, answer: bytes, said: str
) -> None:
    """One that has not registered its callback, and a DPDK that does not know the question
    (field report 31).
    """
    dpdk.answer = lambda _question: answer
    rig.scaler.configure([domain(4)])
    rig.tick(4)
    rig.tick_until(
        lambda: [line["state"] for event, line in rig.said if event == "telemetry"] == [said]
    )
    assert rig.speed(4) == LOW


def test_cpus_that_are_not_the_pods_are_not_moved_by_it(rig: Rig) -> None:
    """An lcore may say that it runs anywhere; a pod's telemetry speaks for that pod's CPUs only."""
    liar = DpdkServer(rig.root, OTHER, {0: [4, 5, 6, 7], 1: [99_999]}).start()
    liar.counters = lambda _lcore: (rig.time_us * 1000, rig.time_us * 1000)
    rig.scaler.configure([domain(4), domain(6, OTHER)])
    settled(rig, 6, HIGH)
    assert rig.speed(4) == LOW
    liar.stop()


def test_the_cool_down_holds(rig: Rig, dpdk: DpdkServer) -> None:
    """After a change, no write for its time (field report 30)."""
    busy(dpdk, rig, 100, 100)
    rig.scaler.configure([domain(4, cooldown_us=10 * PERIOD)])
    rig.tick()
    before = rig.file(4).stat().st_mtime_ns
    rig.tick(9)
    assert rig.file(4).stat().st_mtime_ns == before
    rig.tick(3)
    assert rig.speed(4) == 1_125_000


def test_two_policies_on_a_node_do_not_touch_each_other(rig: Rig, dpdk: DpdkServer) -> None:
    """One is edited, then removed: the other goes on, on the same connection; CPUs that come later
    are sampled (field report 29).
    """
    other = DpdkServer(rig.root, OTHER, {0: [6], 1: [7]}).start()
    busy(dpdk, rig, 100, 100)
    busy(other, rig, 100, 100)
    rig.scaler.configure([domain(4), domain(6, OTHER)])
    settled(rig, 4, HIGH)
    settled(rig, 6, HIGH)
    rig.scaler.configure([domain(4, target=100), domain(6, OTHER), domain(7, OTHER)])
    settled(rig, 7, HIGH)
    rig.scaler.configure([domain(6, OTHER)])
    before = rig.file(4).stat().st_mtime_ns
    busy(other, rig, 0, 0)
    settled(rig, 6, LOW)
    assert rig.file(4).stat().st_mtime_ns == before, "what is left out is the plan's again"
    assert (dpdk.connections, other.connections) == (1, 1)
    other.stop()


def test_an_edited_policy_takes_effect_without_a_reconnect(rig: Rig, dpdk: DpdkServer) -> None:
    """New limits at once, a new target with the next sample."""
    busy(dpdk, rig, 80, 80)
    rig.scaler.configure([domain(4)])
    rig.tick(10)
    assert rig.speed(4) == LOW
    rig.scaler.configure([domain(4, target=40)])
    settled(rig, 4, HIGH)
    assert dpdk.connections == 1


def test_a_file_that_cannot_be_written_costs_its_own_domain_only(
    rig: Rig, dpdk: DpdkServer
) -> None:
    """A CPU that is offline: said once, tried again, and back when it is."""
    busy(dpdk, rig, 100, 100)
    rig.scaler.configure([domain(4), domain(5)])
    rig.file(4).rename(rig.file(4).with_name("gone"))
    rig.scaler.configure([domain(4), domain(5)])
    settled(rig, 5, HIGH)
    assert [event for event, _ in rig.said if event == "speed not set"] == ["speed not set"]
    rig.file(4).with_name("gone").rename(rig.file(4))
    rig.tick(1, 2_000_000)
    settled(rig, 4, HIGH)
    assert "speed set again" in [event for event, _ in rig.said]


def test_a_speed_that_was_held_while_its_cpu_was_away_is_set_again(
    rig: Rig, dpdk: DpdkServer
) -> None:
    """The load fell and rose again meanwhile, so the target is the old one; the kernel's file is
    not.
    """
    worked_us = 0

    def tick(share: int, period: int = PERIOD) -> None:
        nonlocal worked_us
        worked_us += period * share // 100
        counters = (rig.time_us + period, worked_us)
        dpdk.counters = lambda _lcore: counters
        rig.tick(1, period)

    rig.scaler.configure([domain(4)])
    while rig.speed(4) != HIGH:
        tick(100)
    rig.file(4).rename(rig.file(4).with_name("gone"))
    rig.scaler.configure([domain(4)])
    for _ in range(3):
        tick(0)
    rig.file(4).write_text(f"{LOW}\n")
    for period in (PERIOD, PERIOD, PERIOD, 2_000_000, PERIOD):
        tick(100, period)
    assert rig.speed(4) == HIGH


def test_without_governor_userspace_both_limits_are_the_speed(rig: Rig, dpdk: DpdkServer) -> None:
    """And they never cross on the way."""
    rig.scaler.configure([domain(4, by_limits=True)])
    for share, end in ((100, HIGH), (0, LOW), (100, HIGH)):
        busy(dpdk, rig, share, share)
        for _ in range(60):
            rig.tick()
            low, high = (
                int(rig.file(4, f"scaling_{name}_freq").read_text()) for name in ("min", "max")
            )
            assert low == high
            if low == end:
                break
        assert low == end
    assert rig.speed(4) is None


def test_at_the_end_the_fall_back_stays(rig: Rig, dpdk: DpdkServer) -> None:
    """S16: on stop."""
    busy(dpdk, rig, 100, 100)
    rig.scaler.configure([domain(4, fallback=50)])
    settled(rig, 4, HIGH)
    rig.scaler.close()
    assert rig.speed(4) == 2_000_000


# --- what a pod may put into its folder ---


def test_links_out_of_the_folder_are_not_followed(rig: Rig, dpdk: DpdkServer) -> None:
    """Neither the socket, nor a folder on the way, nor a folder with a name that is no UID."""
    rig.scaler.configure([domain(6, OTHER)])
    home = rig.root / OTHER / "dpdk"
    home.mkdir(parents=True)
    (home / "linked").symlink_to(dpdk.path.parent)
    (home / "rte").mkdir()
    (home / "rte" / NAME).symlink_to(dpdk.path)
    (home / "file").mkdir()
    (home / "file" / NAME).write_text("no socket")
    rig.tick(5, 1_000_000)
    assert dpdk.connections == 0
    assert rig.speed(6) == LOW


def test_a_folder_with_very_many_names_costs_a_bounded_look(rig: Rig) -> None:
    """A pod may fill its folder; what is looked at is a few."""
    home = rig.root / UID / "dpdk"
    for number in range(2000):
        (home / f"f{number}").mkdir(parents=True)
    started = time.monotonic()
    assert sockets.prefixes(str(rig.root), UID) == ()
    assert time.monotonic() - started < 0.5


def test_a_pod_that_answers_much_costs_only_itself(rig: Rig, dpdk: DpdkServer) -> None:
    """Sixteen sockets, each with as much as is read of one: the neighbour is asked in each period,
    the other one as its budget allows.
    """
    many = [
        DpdkServer(rig.root, OTHER, {lcore: [6] for lcore in range(400)}, f"n{number}").start()
        for number in range(16)
    ]
    spent = {"us": 0.0}
    real = Peers._receive

    def costly(peers: Peers, peer: Peer) -> bool:
        """Each answer of the other one costs 3 ms of the thread."""
        spent["us"] += 3_000.0 if peer.uid == OTHER else 20.0
        return real(peers, peer)

    rig.scaler.peers.used_us = lambda: spent["us"]
    rig.scaler.configure([domain(4), domain(6, OTHER)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Peers, "_receive", costly)
        rig.tick(100)
        before = len(dpdk.asked)
        spent["us"] = 0.0
        rig.tick(100)
    assert len(dpdk.asked) - before >= 95
    assert spent["us"] <= 0.2 * 100 * PERIOD + 16 * 3_000
    for server in many:
        server.stop()


def test_what_others_put_beside_a_socket_displaces_no_connection(
    rig: Rig, dpdk: DpdkServer
) -> None:
    """However their names sort, and however new they are; of those
    that are new the newest count.
    """
    rig.scaler.configure([domain(4)])
    rig.tick(3)
    many = []
    for number in range(40):
        many.append(DpdkServer(rig.root, UID, {0: [4]}, f"a{number:02}").start())
        time.sleep(0.01)  # file systems tell times of a tick
    rig.tick(4, 600_000)
    assert dpdk.connections == 1
    names = [peer.prefix for peer in rig.scaler.peers.of(UID)]
    assert dpdk.path.parent.name in names
    assert len(names) == 16
    assert {f"a{number:02}" for number in range(25, 40)} == set(names) - {dpdk.path.parent.name}
    for server in many:
        server.stop()


def test_lcores_that_crowd_on_one_cpu_are_looked_at_up_to_a_number(
    rig: Rig, dpdk: DpdkServer
) -> None:
    """A process may say that a thousand of them run there."""
    dpdk.cpusets = {lcore: [4] for lcore in range(100)}
    rig.scaler.configure([domain(4)])
    rig.tick_until(
        lambda: any(
            peer.telemetry and len(peer.telemetry.cycles) == 100 and peer.telemetry.unplaced is None
            for peer in rig.scaler.peers.of(UID)
        )
    )
    rig.tick(2)
    assert len(rig.scaler.domains[4].seen) <= 16


def test_names_that_change_all_the_time_are_not_kept(rig: Rig) -> None:
    """A pod may call its sockets as it likes, each second anew: neither memory nor the log grows
    with that.
    """
    rig.scaler.configure([domain(4)])
    for number in range(30):
        server = DpdkServer(rig.root, UID, {0: [4], 1: [4]}, f"n{number}").start()
        server.counters = lambda _lcore: (rig.time_us * 1000, rig.time_us * 10)
        rig.tick(3, 400_000)
        server.stop()
        shutil.rmtree(server.path.parent)
    rig.tick(3, 1_000_000)
    assert len(rig.scaler.domains[4].seen) == 0
    assert len(list(rig.scaler.peers.of(UID))) == 0
    assert len([event for event, _ in rig.said if event == "telemetry"]) <= 40


@pytest.mark.parametrize("uid", ["../../etc", "..", "", "a/b", "x\0y", "not-hex"])
def test_a_uid_that_is_none_reaches_no_path(
    rig: Rig, uid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the API says."""
    opened: list[str] = []
    real = os.open

    def noted(path: Any, *rest: Any, **more: Any) -> int:
        opened.append(str(path))
        return real(path, *rest, **more)

    monkeypatch.setattr(os, "open", noted)
    rig.scaler.configure([domain(4, uid)])
    opened.clear()
    rig.tick(3, 1_000_000)
    assert opened == []
    assert rig.speed(4) == LOW


def test_a_socket_of_another_kind_is_refused(rig: Rig) -> None:
    """A stream socket, as other daemons have them."""
    place = rig.root / UID / "dpdk" / "rte"
    place.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as stream:
        bind(stream, place / NAME)
        stream.listen()
        rig.scaler.configure([domain(4)])
        rig.tick(3, 1_000_000)
        assert rig.speed(4) == LOW
        assert [line["state"] for event, line in rig.said if event == "telemetry"] == [
            "Protocol wrong type for socket"
        ]


_KEYS = st.sampled_from(
    ["/eal/lcore/usage", "/eal/lcore/info", "lcore_ids", "total_cycles", "busy_cycles", "cpuset"]
)
_JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda part: st.lists(part) | st.dictionaries(_KEYS, part),
    max_leaves=20,
)


@settings(deadline=None)
@given(
    st.binary(min_size=1, max_size=200) | _JSON.map(lambda content: json.dumps(content).encode())
)
def test_no_answer_raises_anything_else(answer: bytes) -> None:
    """Any bytes, any JSON: taken, or the end of this connection."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    with near, far:
        telemetry = Telemetry(near)
        far.send(b'{"max_output_len": 16384}')
        assert telemetry.receive(0)
        for number in range(3):
            telemetry.ask(number)
            far.send(answer)
            try:
                assert telemetry.receive(number)
            except TelemetryError:
                return
