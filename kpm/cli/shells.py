"""agent and operator: the processes that run in a cluster."""

from collections.abc import Callable

import click

from kpm.cli.energy_options import EnergyOptions, energy_options
from kpm.cli.options import (
    helper_option,
    hsmp_option,
    kubeconfig_option,
    log_level_option,
    state_option,
    sysfs_option,
    telemetry_option,
)
from kpm.cli.serving_options import ServingOptions, serving_options
from kpm.formats.wire import GROUPS
from kpm.process.errors import InputError
from kpm.request.options import HELPER_SOCKET
from kpm_planner.model.agent_settings import IdleStates

idle_option = click.option(
    "--idle-states",
    envvar="AGENT_IDLE_STATES",
    type=click.Choice([item.value for item in IdleStates]),
    default=IdleStates.BY_NAME.value,
    show_default=True,
    help="The most that agent.idleStates of a PowerConfig may ask for.",
)
_SECONDS = {"s": 1.0, "m": 60.0}


def duration(least: float) -> Callable[[object, click.Parameter, str], float]:
    """Reads an option such as 60s, of so many seconds at least."""

    def seconds(_context: object, parameter: click.Parameter, text: str) -> float:
        number, unit = text[:-1], text[-1:]
        whole = unit in _SECONDS and number.isascii() and number.isdigit()
        if not whole or int(number) * _SECONDS[unit] < least:
            raise InputError(
                f"{parameter.opts[0]}: expected a duration such as 60s or 2m, got {text!r}"
            )
        return int(number) * _SECONDS[unit]

    return seconds


group_option = click.option(
    "--group",
    type=click.Choice(GROUPS),
    default=GROUPS[0],
    show_default=True,
    envvar="KPM_GROUP",
    help="API group of the kinds.",
)
namespace_option = click.option(
    "--namespace",
    "-n",
    envvar="KPM_NAMESPACE",
    help="Namespace of the objects; by default the group's own.",
)


@click.command()
@click.option("--node", envvar="NODE_NAME", required=True, help="Name of the node (NODE_NAME).")
@group_option
@namespace_option
@kubeconfig_option
@sysfs_option
@helper_option
@hsmp_option
@state_option
@click.option(
    "--kubelet-socket",
    envvar="KPM_KUBELET_SOCKET",
    default="/var/lib/kubelet/pod-resources/kubelet.sock",
    show_default=True,
    help="The kubelet's PodResources socket.",
)
@click.option(
    "--claim-socket",
    help="A second PodResources socket, of a driver that hands out CPUs through resource claims.",
)
@click.option(
    "--containers",
    metavar="SOCKET",
    help="Socket of a helper that hears of containers from the runtime (NRI).",
)
@click.option(
    "--cdi",
    metavar="FOLDER",
    default="",
    help=(
        "Where CDI files are; with it, CPUs of claims are read there, and in cgroups, where the"
        " kubelet names none."
    ),
)
@telemetry_option
@click.option(
    "--resync",
    callback=duration(1.0),
    default="60s",
    show_default=True,
    help="How often to look without being told to.",
)
@click.option(
    "--repair",
    type=click.Choice(["write", "report"]),
    default="write",
    show_default=True,
    help="What is done about values that somebody else wrote.",
)
@idle_option
@click.option("--measure-only", is_flag=True, help="Plan and report, but write nothing.")
@energy_options
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=10258,
    show_default=True,
    help="Port of /metrics, and without TLS of /healthz and /readyz too.",
)
@serving_options
@log_level_option
def agent(
    node: str,
    group: str,
    namespace: str | None,
    kubeconfig: str | None,
    sysfs: str,
    helper: str | None,
    hsmp: str | None,
    state_dir: str,
    kubelet_socket: str,
    claim_socket: str | None,
    containers: str | None,
    cdi: str,
    telemetry_dir: str,
    resync: float,
    repair: str,
    measure_only: bool,
    idle_states: str,
    port: int,
    serving: ServingOptions,
    log_level: str,
    energy: EnergyOptions,
) -> None:
    """Tune this node by the objects of the cluster, until told to stop.

    \b
    kpm agent --node $(hostname) --kubeconfig ~/.kube/config
    """
    import os
    import threading

    from kpm.agent.cluster import Cluster
    from kpm.kube.api import connect
    from kpm.process.ending import on_signals
    from kpm.process.logs import make_log
    from kpm.process.loops import say_raised, trouble_logger
    from kpm.process.threads import Threads
    from kpm_planner.model.cluster import SYSTEM_NAMESPACE

    log = make_log("agent", log_level).bind(node=node)
    space, wake = namespace or SYSTEM_NAMESPACE[group], threading.Event()
    threads = Threads(log)
    cluster = Cluster(
        connect(kubeconfig),
        node,
        group,
        namespace=space,
        changed=wake.set,
        trouble=trouble_logger(log),
        threads=threads,
        idle_states=IdleStates(idle_states),
    )
    cluster.start()  # the API server answers while the rest is loaded

    from kpm.agent.build import Settings, build_agent
    from kpm.agent.hotplug import listen
    from kpm.process.serving import health_answers, metric_answers

    settings = Settings(
        node,
        group,
        space,
        sysfs=sysfs,
        state_dir=state_dir,
        kubelet_socket=kubelet_socket,
        claim_socket=claim_socket,
        resync=resync,
        repair=repair,
        measure_only=measure_only,
        telemetry_dir=telemetry_dir,
        log_level=log_level,
        hsmp=hsmp,
        energy=energy.settings(state_dir),
        cgroup=energy.cgroup,
        estimate=energy.estimate,
        helper=helper,
        pod_uid=os.environ.get("POD_UID", ""),
        containers=containers,
        cdi=cdi,
    )
    say_raised(log)
    made = build_agent(settings, cluster, wake, log)
    on_signals(made.stop)
    # it loads a large library, and looks at once at what it missed
    made.settled_in = lambda: listen(made.plugged, log, threads)
    metrics = metric_answers(made.registry, *([] if made.energy is None else [made.energy.metrics]))
    used = serving.serve(
        port, threads, health_answers(made.healthy, made.ready), metrics, cluster.api
    )
    log.info("agent started", port=used, resync=resync, repair=repair, measure_only=measure_only)
    made.run()


@click.command()
@sysfs_option
@click.option("--socket", default=HELPER_SOCKET, show_default=True, help="Where to listen.")
@click.option(
    "--nri",
    metavar="SOCKET",
    help=(
        "The container runtime's NRI socket, where agents are to hear of containers before they"
        " run."
    ),
)
@click.option(
    "--hsmp",
    metavar="DEVICE",
    help="The mailbox of an AMD machine's firmware, where agents are to set what it sets.",
)
def helper(sysfs: str, socket: str, nri: str | None, hsmp: str | None) -> None:
    """Write what an agent asks for, of the files that are managed, until told to stop.

    \b
    kpm helper --sysfs /sys --socket /run/kpm/helper.sock
    """
    from kpm.helper.server import run

    run(sysfs, socket, nri, hsmp)


@click.command()
@sysfs_option
@helper_option
@telemetry_option
@log_level_option
def scaler(sysfs: str, helper: str | None, telemetry_dir: str, log_level: str) -> None:
    """Scale the domains that standard input names, a JSON line each time they change, until it
    ends.

    \b
    kpm scaler --sysfs /sys < domains.json
    """
    import os
    import sys

    from kpm.process.ending import on_signals
    from kpm.process.logs import make_log
    from kpm.request.tree import open_tree
    from kpm.scaler.loop import Scaler, monotonic_us
    from kpm.scaler.peers import Peers
    from kpm.scaler.server import say
    from kpm.scaler.server import serve as scale
    from kpm.scaler.words import IN_FORCE, news_line
    from kpm_applier.speed import SpeedWriter

    log = make_log("scaler", log_level)
    os.set_blocking(sys.stdout.fileno(), False)
    peers = Peers(telemetry_dir, log, monotonic_us, lambda news: say(news_line(news)))
    on_signals(lambda *_: sys.exit(0))
    scale(
        Scaler(peers, SpeedWriter(open_tree(sysfs, helper)), log),
        sys.stdin.fileno(),
        lambda: say(IN_FORCE),
        log,
    )


@click.command()
@click.option(
    "--image",
    envvar="AGENT_IMAGE",
    required=True,
    help="Container image of the agents, where the PowerConfig names none.",
)
@click.option(
    "--agent-image-allowed",
    "allowed",
    multiple=True,
    envvar="AGENT_IMAGES_ALLOWED",
    metavar="IMAGE",
    help=(
        "An image that a PowerConfig may name instead, or the beginning of images with * at its"
        " end; may be given more than once."
    ),
)
@click.option(
    "--external-host",
    "hosts",
    multiple=True,
    envvar="EXTERNAL_HOSTS",
    metavar="HOST",
    help="A server that source.external.url of a PowerCap may name; may be given more than once.",
)
@click.option(
    "--privileged",
    is_flag=True,
    envvar="AGENT_PRIVILEGED",
    help="Run the helpers of the agents privileged, on nodes whose security modules refuse less.",
)
@idle_option
@click.option(
    "--hsmp",
    is_flag=True,
    envvar="AGENT_HSMP",
    help="Let the agents' helpers use /dev/hsmp of AMD machines; those are privileged then.",
)
@group_option
@namespace_option
@kubeconfig_option
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8081,
    show_default=True,
    help="Port of /metrics, and without TLS of /healthz and /readyz too.",
)
@serving_options
@log_level_option
def operator(
    image: str,
    allowed: tuple[str, ...],
    hosts: tuple[str, ...],
    privileged: bool,
    idle_states: str,
    hsmp: bool,
    group: str,
    namespace: str | None,
    kubeconfig: str | None,
    port: int,
    serving: ServingOptions,
    log_level: str,
) -> None:
    """Deploy the agents by the PowerConfig, make the objects of each node, and roll up what the
    agents report.

    \b
    kpm operator --image quay.io/me/kpm:latest --kubeconfig ~/.kube/config
    """
    import os
    import uuid

    from kpm.kube.api import connect
    from kpm.operator.daemonset import Image
    from kpm.operator.operator import Place, build_operator
    from kpm.process.ending import on_signals
    from kpm.process.logs import make_log
    from kpm.process.loops import say_raised
    from kpm.process.serving import health_answers, metric_answers, process_registry
    from kpm_planner.model.cluster import SYSTEM_NAMESPACE

    log = make_log("operator", log_level)
    say_raised(log)
    place = Place(group, namespace or SYSTEM_NAMESPACE[group])
    api = connect(kubeconfig)
    made = build_operator(
        api,
        place,
        Image(image, privileged, hsmp, IdleStates(idle_states), allowed),
        identity=f"{os.uname().nodename}_{uuid.uuid4()}",
        log=log,
        hosts=hosts,
    )
    on_signals(made.stop)
    registry = process_registry()
    used = serving.serve(
        port,
        made.threads,
        health_answers(made.healthy, made.ready),
        metric_answers(lambda: registry),
        api,
    )
    log.info("operator started", port=used, group=group, namespace=place.namespace, image=image)
    made.run()
