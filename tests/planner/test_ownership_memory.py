"""R7 over time: what the kubelet said once stays while the container runs and the kubelet only
forgets.

The kubelet is asked again and again; between two questions `remembered` carries over what is known.
An answer is full, an error, empty, or leaves out some of the containers.
"""

from collections.abc import Iterable, Sequence

from attrs import evolve, frozen
from hypothesis import assume, given
from hypothesis import strategies as st

from kpm_planner.model.allocation import Allocation, ContainerCpus
from kpm_planner.model.assignment import Pool
from kpm_planner.model.cluster import Container, Pod
from kpm_planner.model.problems import Code
from kpm_planner.ownership import resolve_ownership
from kpm_planner.ownership_memory import awaited, remembered
from tests.planner.build import (
    DEVICE,
    allocation,
    asking,
    config,
    container,
    machine,
    owns,
    plan,
    pod,
    profile,
    workload,
)
from tests.planner.reading import codes, group_of, held_cpus
from tests.strategies.choices import mask, pick

OBJECTS = (
    profile(),
    profile("shared", shared=True, max=1500),
    workload(),
    config(custom_devices=(DEVICE,)),
)
NODE = machine("0-15")
PROFILE = ("power.openshift.io", "performance")
#: Parts of answers: the whole of it; nothing at all; some containers missing, or reported without
#: CPUs.
KINDS = ("full", "error", "empty", "partial", "hollow")


@frozen
class Answer:
    """What the kubelet says: None for an error."""

    reported: tuple[ContainerCpus, ...] | None


@frozen
class Story:
    """Running pods, whose CPUs are whose in truth, and what the kubelet says of it, one answer
    after the other.
    """

    pods: tuple[Pod, ...]
    truth: tuple[ContainerCpus, ...]
    answers: tuple[Answer, ...]


def container_of(shape: str, name: str, count: int) -> Container:
    """A container that can own CPUs."""
    resources = ((f"{PROFILE[0]}/{PROFILE[1]}", count),)
    if shape == "device":
        return container(name, (None, None), resources=(*resources, (DEVICE, count)))
    return (
        asking(count, name=name)
        if shape == "native"
        else container(name, (None, None), resources=resources, claims=True)
    )


@st.composite
def stories(draw: st.DrawFn, kinds: Sequence[str] = KINDS) -> Story:
    """One to three pods with CPUs of their own, and up to six answers that only ever forget."""
    pods, truth, free = [], [], iter(range(1, 16))
    for index in range(pick(draw, (1, 2, 3))[0]):
        shape, *counts = pick(draw, ("native", "device", "claim"), (1, 2), (0, 1, 2))
        parts = [
            container_of(shape, f"c{number}", count) for number, count in enumerate(counts) if count
        ]
        pods.append(pod(*parts, name=f"p{index}", guaranteed=shape == "native"))
        cpus = [frozenset(next(free) for _ in range(count)) for count in counts]
        truth += [
            ContainerCpus("ns1", f"p{index}", f"c{number}", own)
            for number, own in enumerate(cpus)
            if own
        ]
    answers = [
        answer(kind, truth, mask(draw, len(truth)))
        for kind in pick(draw, *[kinds] * pick(draw, range(1, 7))[0])
    ]
    return Story(tuple(pods), tuple(truth), tuple(answers))


def answer(kind: str, truth: Sequence[ContainerCpus], bits: Sequence[int]) -> Answer:
    """An answer that says no more than the truth."""
    match kind:
        case "full":
            return Answer(tuple(truth))
        case "error":
            return Answer(None)
        case "empty":
            return Answer(())
        case "partial":
            return Answer(tuple(entry for entry, gone in zip(truth, bits, strict=True) if not gone))
    return Answer(
        tuple(
            evolve(entry, cpus=frozenset()) if gone else entry
            for entry, gone in zip(truth, bits, strict=True)
        )
    )


def ask(before: Allocation, pods: Iterable[Pod], said: Answer) -> tuple[Allocation, Allocation]:
    """The allocation after one more answer, and what is remembered of it, as the agent asks."""
    now = Allocation(
        tuple(pods),
        said.reported or (),
        said.reported is not None,
        None,
        before.last_known,
        before.accepted,
    )
    return now, remembered(now, (DEVICE,))


def look(story: Story) -> list[Allocation]:
    """The allocation after each answer."""
    found, before = [], Allocation()
    for said in story.answers:
        now, before = ask(before, story.pods, said)
        found.append(now)
    return found


def seen(answers: Iterable[Answer]) -> set[tuple[str, str]]:
    """Pod and container of those that were reported with CPUs."""
    return {
        (entry.pod, entry.container)
        for said in answers
        for entry in said.reported or ()
        if entry.cpus
    }


@given(stories())
def test_a_container_that_was_reported_once_keeps_its_cpus_while_it_runs(story: Story) -> None:
    """Exactly these, under its profile, whatever the kubelet forgets afterwards."""
    for step, now in enumerate(look(story), 1):
        owners = {
            (item.ref.pod, item.ref.name): item for item in resolve_ownership(now, (DEVICE,)).owners
        }
        known = seen(story.answers[:step])
        assert owners.keys() == known
        for entry in story.truth:
            if (entry.pod, entry.container) in known:
                item = owners[entry.pod, entry.container]
                assert (item.cpus, item.profile, item.refused) == (entry.cpus, PROFILE, False)


@given(stories())
def test_its_cpus_are_neither_free_nor_anybody_else_s_in_any_plan(story: Story) -> None:
    """They are never held either: what is known is in force."""
    for step, now in enumerate(look(story), 1):
        found = plan(*OBJECTS, on=NODE, with_=now)
        known = seen(story.answers[:step])
        for entry in story.truth:
            for cpu in entry.cpus if (entry.pod, entry.container) in known else ():
                group = group_of(found)[cpu]
                assert group.container is not None
                assert (group.pool, group.profile, group.container.pod, group.container.name) == (
                    Pool.EXCLUSIVE,
                    "performance",
                    entry.pod,
                    entry.container,
                )
                assert not group.held


@given(stories())
def test_a_plan_is_the_same_whatever_is_forgotten_once_all_was_known(story: Story) -> None:
    """Nothing is written because the kubelet forgets."""
    assume(Answer(story.truth) in story.answers)
    first = story.answers.index(Answer(story.truth))
    plans = [plan(*OBJECTS, on=NODE, with_=now).groups for now in look(story)[first:]]
    assert plans == [plans[0]] * len(plans)
    assert not any(group.held for group in plans[0])


@given(stories())
def test_while_a_running_container_was_never_reported_an_answer_leaves_cpus_unwritten(
    story: Story,
) -> None:
    """Those that could be its are held; once all were reported nothing is unknown any more."""
    everybody = {(entry.pod, entry.container) for entry in story.truth}
    for step, now in enumerate(look(story), 1):
        # listed without CPUs is known to own none
        known = seen(story.answers[:step]) | {
            (entry.pod, entry.container) for entry in now.reported
        }
        if now.answered or known == everybody:
            assert resolve_ownership(now, (DEVICE,)).unknown == (known != everybody)
            assert bool(held_cpus(plan(*OBJECTS, on=NODE, with_=now))) == (known != everybody)


@given(stories())
def test_before_the_first_answer_nothing_is_known(story: Story) -> None:
    """An error is no answer: the memory stays None, which is not an empty one."""
    before, answered = Allocation(), False
    for said in story.answers:
        now, before = ask(before, story.pods, said)
        answered |= said.reported is not None
        assert (before.last_known is None) == (not answered)
        assert resolve_ownership(now, (DEVICE,)).unknown or answered


ENDS = ("Succeeded", "Failed", "finished", "deleted")


@given(stories(), st.data())
def test_the_memory_is_dropped_when_the_pod_ends(story: Story, data: st.DataObject) -> None:
    """At once where the API shows the end; one that the API does not show is at baseline until the
    kubelet answers.
    """
    index, end, *after = pick(data.draw, range(len(story.pods)), ENDS, KINDS[1:3], KINDS[1:3])
    _, before = ask(Allocation(), story.pods, Answer(story.truth))
    pods = [
        ended(item, end) if position == index else item for position, item in enumerate(story.pods)
    ]
    name = story.pods[index].meta.name
    forgotten = False
    for kind in after:
        now, before = ask(
            before, [item for item in pods if item is not None], answer(kind, story.truth, ())
        )
        forgotten |= now.answered
        owners = [item for item in resolve_ownership(now, (DEVICE,)).owners if item.ref.pod == name]
        assert not owners or (
            end == "deleted"
            and not forgotten
            and all(item.refused and item.profile is None for item in owners)
        )
        others = {item.ref.pod for item in resolve_ownership(now, (DEVICE,)).owners} - {name}
        assert others == {item.meta.name for item in story.pods} - {name}
        if forgotten:
            assert name not in {entry.pod for entry in before.last_known or ()}
            assert story.pods[index].meta.uid not in {uid for uid, _ in before.accepted}


def ended(item: Pod, end: str) -> Pod | None:
    """A pod at its end: by phase, its containers terminated for good, or gone."""
    if end == "finished":
        return evolve(
            item, containers=tuple(evolve(part, finished=True) for part in item.containers)
        )
    return None if end == "deleted" else evolve(item, phase=end)


resizes = st.lists(st.sampled_from(("1-2", "1-3", "1", "forget", "error")), max_size=6)


@given(resizes)
def test_a_container_that_was_accepted_stays_when_its_count_changes_later(steps: list[str]) -> None:
    """It has the CPUs that were reported last, under its profile; a difference is a warning (design
    §4, exclusive).
    """
    pods, cpus = [pod()], "1-2"
    _, before = ask(Allocation(), pods, Answer((owns("1-2"),)))
    for step in steps:
        said = {"forget": Answer(()), "error": Answer(None)}.get(step) or Answer((owns(step),))
        cpus = cpus if step in ("forget", "error") else step
        now, before = ask(before, pods, said)
        found = resolve_ownership(now)
        assert [(item.cpus, item.profile, item.refused) for item in found.owners] == [
            (owns(cpus).cpus, PROFILE, False)
        ]
        assert (Code.POD_COUNT_CHANGED in codes(found.problems)) == (cpus != "1-2")
        assert before.accepted == {("uid-web", "app")}


@given(resizes)
def test_a_container_that_was_never_right_is_not_accepted(steps: list[str]) -> None:
    """Its CPUs are its own, at baseline, until the counts agree once;
    from then on they may differ.
    """
    pods, cpus, right = [pod(container_of("claim", "app", 2), guaranteed=False)], "1-3", False
    _, before = ask(Allocation(), pods, Answer((owns("1-3"),)))
    assert not before.accepted
    for step in steps:
        said = {"forget": Answer(()), "error": Answer(None)}.get(step) or Answer((owns(step),))
        cpus = cpus if step in ("forget", "error") else step
        now, before = ask(before, pods, said)
        right |= cpus == "1-2"
        assert [(item.cpus, item.refused) for item in resolve_ownership(now).owners] == [
            (owns(cpus).cpus, not right)
        ]
        assert bool(before.accepted) == right


@given(stories())
def test_it_is_worth_asking_again_while_a_container_is_left_out(story: Story) -> None:
    """Also where its last known CPUs stay; after a full answer there is nothing to wait for."""
    everybody = {(entry.pod, entry.container) for entry in story.truth}
    for said, now in zip(story.answers, look(story), strict=True):
        assert awaited(now, (DEVICE,)) == (seen([said]) != everybody)


def test_only_containers_that_can_own_cpus_and_ask_for_a_profile_are_awaited() -> None:
    """From admission on, so pending ones too; not those that have ended."""
    assert awaited(allocation([pod(phase="Pending")]))
    assert not awaited(allocation([pod(phase="Succeeded")]))
    assert not awaited(allocation([pod(asking(finished=True))]))
    assert not awaited(allocation([pod(container(cpu=2))]))
    assert not awaited(allocation([pod(guaranteed=False)]))
    assert not awaited(allocation([pod()], [owns("1-2")]))


def test_only_a_known_container_that_asks_for_one_profile_has_a_count_to_be_right() -> None:
    """Not one of a pod that nobody knows, one that the pod does not name, or one that asks for no
    profile or for two.
    """
    two = container("two", 2, resources=(("power.openshift.io/a", 2), ("power.openshift.io/b", 2)))
    pods = [pod(asking(2), container("plain", 2), two)]
    reported = [
        owns("1-2"),
        owns("3-4", container_name="plain"),
        owns("5-6", container_name="two"),
        owns("7-8", container_name="unnamed"),
        owns("9-10", name="nobody"),
    ]
    found = remembered(allocation(pods, reported))
    assert found.accepted == {("uid-web", "app")}
