"""A Kubernetes cluster of one node on this machine, with a real kubelet.

Everything is below one folder, except what a node shares with its machine: the bridge, the rules
of kube-proxy, and control groups. :meth:`Cluster.stop` removes those. There is one at a time.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Self

import yaml

from harness.kubernetes.binaries import kubernetes_binary, pause_binary
from harness.kubernetes.image_archive import write_image
from harness.kubernetes.names import Names, NameServer

_BRIDGE: Final = "tailrace0"
NODE_IP: Final = "10.201.0.1"
_PODS: Final = "10.201.0.0/24"
_SERVICES: Final = "10.202.0.0/16"
_API: Final = "https://127.0.0.1:16443"
_TOKEN: Final = "local-test-token"
_PAUSE_IMAGE: Final = "tailrace.test/pause:1"
_DOMAIN: Final = "svc.cluster.local"
_PATIENCE_S: Final = 180.0
_NAMES_AGE_S: Final = 1.0
_LOCK: Final = Path("/tmp/tailrace-kubernetes.lock")
_SHARES: Final = "20480"
_WEIGHT: Final = "2000"
"""Of all pods together: twenty times that of one process, for cgroup v1 and v2."""
_FORWARD: Final = ("FORWARD", "-i", _BRIDGE, "-o", _BRIDGE, "-j", "ACCEPT")
"""Docker drops forwarded packets; those between pods are ours."""

_GLUTTON: Final = """
import os, sys
pid, group = sys.argv[1:]
open("/proc/self/oom_score_adj", "w").write("-1000")
open(group, "w").write(str(os.getpid()))
eaten = []
while os.path.exists(f"/proc/{pid}"):
    eaten.append(b"x" * 4_000_000)
"""
"""The program of :meth:`Cluster.exhaust_memory`, which the kernel spares."""

Resource = dict[str, Any]


class CommandFailed(Exception):  # noqa: N818 - tests expect some
    """A command ended with an error; the text has its output."""


class Cluster:
    """The cluster.

    Args:
        folder: everything it writes.
        images: archives that the node has, by which pods run.
        kubectl: the path of kubectl.
    """

    def __init__(self, folder: Path, images: Iterable[Path], kubectl: str) -> None:
        self.folder = folder
        self._images = list(images)
        self._kubectl = kubectl
        self._binary = kubernetes_binary()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._names: NameServer | None = None
        self._known: tuple[float, Names] = (0.0, {})
        self._lock = _LOCK.open("w")
        self.config = folder / "admin.conf"

    def start(self) -> Self:
        """Start the control plane, then the node; return when it is ready.

        Raises:
            RuntimeError: a program ended, or was not ready in time.
        """
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in ("logs", "cni", "pod-logs"):
            (self.folder / name).mkdir(exist_ok=True)
        try:
            self._start_network()
            self._start_control_plane()
            self._start_node()
        except BaseException:
            self.stop()
            raise
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def kubectl(self, *arguments: str, content: str | None = None, timeout: float = 600) -> str:
        """Run kubectl; return its output.

        Raises:
            CommandFailed: it ended with an error.
        """
        return run([self._kubectl, "--kubeconfig", str(self.config), *arguments], content, timeout)

    def get(self, kind: str, *arguments: str) -> list[Resource]:
        """Return resources of a kind."""
        listed = json.loads(self.kubectl("get", kind, *arguments, "-o", "json"))
        found: list[Resource] = listed.get("items", [listed])
        return found

    def tag(self, reference: str, other: str) -> None:
        """Give an image of the node another name."""
        self._ctr("images", "tag", "--force", f"docker.io/{reference}", f"docker.io/{other}")

    def add_image(self, archive: Path) -> None:
        """Give the node another image."""
        self._ctr("images", "import", str(archive))

    def volume(self, namespace: str, claim: str) -> Path:
        """Return the folder of the volume of a claim."""
        return self.folder / "volumes" / namespace / claim

    def add_volumes(self, namespace: str, claims: Iterable[str], gibibytes: int = 1) -> None:
        """Create a volume for each claim, a folder that the images' user owns."""
        for claim in claims:
            path = self.volume(namespace, claim)
            path.mkdir(parents=True)
            os.chown(path, 65532, 65532)
            volume = {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": f"{namespace}-{claim}"},
                "spec": {
                    "capacity": {"storage": f"{gibibytes}Gi"},
                    "accessModes": ["ReadWriteOnce"],
                    "claimRef": {"namespace": namespace, "name": claim},
                    "hostPath": {"path": str(path)},
                },
            }
            self.kubectl("apply", "-f", "-", content=json.dumps(volume))

    def add_claim(self, namespace: str, claim: str) -> Path:
        """Create a claim with its volume; return the folder of the volume."""
        self.add_volumes(namespace, [claim])
        body = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": claim, "namespace": namespace},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}},
            },
        }
        self.kubectl("apply", "-f", "-", content=json.dumps(body))
        return self.volume(namespace, claim)

    def define(self, group: str, version: str, kind: str) -> None:
        """Define a kind of custom resources with any fields."""
        plural = f"{kind.lower()}s"
        schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        definition = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}"},
            "spec": {
                "group": group,
                "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
                "versions": [
                    {
                        "name": version,
                        "served": True,
                        "storage": True,
                        "schema": {"openAPIV3Schema": schema},
                    }
                ],
            },
        }
        # Those of a group may be protected, and ask for an approval.
        approved = {"api-approved.kubernetes.io": "unapproved, for tests"}
        definition["metadata"]["annotations"] = approved  # type: ignore[index]
        self.kubectl("apply", "-f", "-", content=json.dumps(definition))
        name = f"crd/{plural}.{group}"
        self.kubectl("wait", "--for=condition=Established", name, f"--timeout={_PATIENCE_S:.0f}s")

    def kill(self, container: str) -> None:
        """Send SIGKILL to all processes of a container."""
        self._ctr("tasks", "kill", "--all", "-s", "SIGKILL", container)

    def exhaust_memory(self, container: str) -> None:
        """Fill the memory of a container's control group until the kernel kills its process."""
        tasks = dict(line.split()[:2] for line in self._ctr("tasks", "ls").splitlines()[1:])
        pid = tasks[container]
        try:
            run([sys.executable, "-c", _GLUTTON, pid, _memory_group(pid)])
        except CommandFailed:
            # The runtime kills all that is left in the group of a container that has died.
            if Path(f"/proc/{pid}").exists():
                raise

    def freeze_node(self) -> None:
        """Stop the kubelet without ending it: the node becomes not ready."""
        self._processes["kubelet"].send_signal(signal.SIGSTOP)

    def thaw_node(self) -> None:
        """Let the kubelet go on."""
        self._processes["kubelet"].send_signal(signal.SIGCONT)

    def log_of(self, program: str) -> str:
        """Return the output of a program so far."""
        return (self.folder / "logs" / f"{program}.log").read_text(errors="replace")

    # Network

    def _start_network(self) -> None:
        with contextlib.suppress(CommandFailed):
            run(["ip", "link", "add", _BRIDGE, "type", "bridge"])
        run(["ip", "addr", "replace", f"{NODE_IP}/24", "dev", _BRIDGE])
        run(["ip", "link", "set", _BRIDGE, "up"])
        # Packets to a Service without endpoints stay on this machine.
        run(["ip", "route", "replace", _SERVICES, "dev", _BRIDGE])
        run(["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.bridge.bridge-nf-call-iptables=1"])
        run(["iptables", "-I", *_FORWARD])
        self._names = NameServer(NODE_IP, self._current_names).start()

    def _current_names(self) -> Names:
        """Return the names, at most a second old unless the API server does not answer."""
        read_at, known = self._known
        if time.monotonic() > read_at + _NAMES_AGE_S:
            with contextlib.suppress(CommandFailed):
                known = self._read_names()
            self._known = time.monotonic(), known
        return known

    def _read_names(self) -> Names:
        """Return the names of all Services, and of the pods of headless ones."""
        found: dict[str, list[str]] = {}
        for service in self.get("services", "-A"):
            meta = service["metadata"]
            name = f"{meta['name']}.{meta['namespace']}.{_DOMAIN}"
            address = service["spec"].get("clusterIP")
            if address != "None":
                found[name] = [address]
                continue
            labels = ",".join(f"{k}={v}" for k, v in service["spec"]["selector"].items())
            found[name] = []
            for pod in self.get("pods", "-n", meta["namespace"], "-l", labels):
                if address := pod["status"].get("podIP"):
                    found[name].append(address)
                    found[f"{pod['metadata']['name']}.{name}"] = [address]
        return found

    # Control plane

    def _start_control_plane(self) -> None:
        key, public = self.folder / "accounts.key", self.folder / "accounts.pub"
        run(["openssl", "genrsa", "-out", str(key), "2048"])
        run(["openssl", "rsa", "-in", str(key), "-pubout", "-out", str(public)])
        tokens = self.folder / "tokens.csv"
        tokens.write_text(f"{_TOKEN},admin,admin,system:masters\n")
        self.config.write_text(yaml.safe_dump(_kubeconfig()))
        certificates = f"--cert-dir={self.folder}/certificates"
        client, peer = "http://127.0.0.1:12379", "http://127.0.0.1:12380"
        self._run(
            "etcd",
            f"--data-dir={self.folder}/etcd",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--log-level=error",
            "--unsafe-no-fsync",
        )
        self._run(
            "kube-apiserver",
            f"--etcd-servers={client}",
            "--bind-address=127.0.0.1",
            f"--advertise-address={NODE_IP}",
            "--secure-port=16443",
            certificates,
            f"--token-auth-file={tokens}",
            "--service-account-issuer=https://kubernetes.test",
            f"--service-account-key-file={public}",
            f"--service-account-signing-key-file={key}",
            "--authorization-mode=RBAC",
            f"--service-cluster-ip-range={_SERVICES}",
            "--endpoint-reconciler-type=none",
            "--kubelet-preferred-address-types=InternalIP",
        )
        self._wait("the API server", lambda: self.kubectl("get", "--raw", "/readyz") == "ok")
        common = (f"--kubeconfig={self.config}", "--leader-elect=false", "--bind-address=127.0.0.1")
        self._run(
            "kube-controller-manager",
            *common,
            certificates,
            "--secure-port=16444",
            f"--service-account-private-key-file={key}",
            "--horizontal-pod-autoscaler-sync-period=5s",
            "--node-monitor-grace-period=20s",
        )
        self._run("kube-scheduler", *common, certificates, "--secure-port=16445")

    # Node

    def _start_node(self) -> None:
        network = self.folder / "cni" / "10-tailrace.conflist"
        network.write_text(json.dumps(_network(self.folder)))
        containerd = self.folder / "containerd.toml"
        containerd.write_text(_containerd(self.folder))
        kubelet = self.folder / "kubelet.yaml"
        kubelet.write_text(yaml.safe_dump(_kubelet(self.folder)))
        (self.folder / "resolv.conf").write_text("")

        self._spawn("containerd", ["containerd", "-c", str(containerd)])
        self._wait("containerd", lambda: self._ctr("version") != "")
        pause = write_image(self.folder / "pause.tar", _PAUSE_IMAGE, pause_binary())
        for archive in (pause, *self._images):
            self._ctr("images", "import", str(archive))
        self._run(
            "kubelet",
            f"--config={kubelet}",
            f"--kubeconfig={self.config}",
            f"--root-dir={self.folder}/kubelet",
            f"--cert-dir={self.folder}/certificates",
            "--hostname-override=node-1",
            f"--node-ip={NODE_IP}",
        )
        self._run(
            "kube-proxy",
            f"--kubeconfig={self.config}",
            "--hostname-override=node-1",
            "--proxy-mode=iptables",
            "--cluster-cidr=10.201.0.0/16",
            "--healthz-bind-address=127.0.0.1:16256",
            "--metrics-bind-address=127.0.0.1:16249",
            "--bind-address=127.0.0.1",
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
        )
        self._wait("the node", self._node_is_ready)
        _raise_weight()

    def _node_is_ready(self) -> bool:
        return any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for node in self.get("nodes")
            for condition in node["status"]["conditions"]
        )

    def _ctr(self, *arguments: str) -> str:
        return run(["ctr", "-a", f"{self.folder}/containerd.sock", "-n", "k8s.io", *arguments])

    # Processes

    def _run(self, part: str, *arguments: str) -> None:
        self._spawn(part, [str(self._binary), part, *arguments])

    def _spawn(self, name: str, command: list[str]) -> None:
        with (self.folder / "logs" / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )

    def _wait(self, what: str, is_ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            with contextlib.suppress(CommandFailed):
                if is_ready():
                    return
            for name, process in self._processes.items():
                if process.poll() is not None:
                    raise RuntimeError(f"{name} has ended: {self.log_of(name)[-2000:]}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{what} is not ready after {_PATIENCE_S:.0f} s")
            time.sleep(0.2)

    # End

    def stop(self) -> None:
        """End all programs and containers, and remove what the node has left on the machine."""
        for name in ("kube-proxy", "kubelet", "kube-scheduler", "kube-controller-manager"):
            self._end(name)
        if "containerd" in self._processes:
            self._remove_containers()
        for name in ("containerd", "kube-apiserver", "etcd"):
            self._end(name)
        if self._names:
            self._names.stop()
        _unmount(self.folder)
        _quietly([str(self._binary), "kube-proxy", "--cleanup"])
        _quietly(["iptables", "-D", *_FORWARD])
        _quietly(["ip", "link", "del", _BRIDGE])
        _remove_canaries()
        _remove_control_groups()
        shutil.rmtree(self.folder / "containerd", ignore_errors=True)
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _remove_containers(self) -> None:
        with contextlib.suppress(CommandFailed):
            tasks = self._ctr("tasks", "ls", "-q").split()
            for task in tasks:
                with contextlib.suppress(CommandFailed):
                    self._ctr("tasks", "rm", "-f", task)

    def _end(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def run(command: list[str], content: str | None = None, timeout: float = 600) -> str:
    """Run a command; return its output.

    Raises:
        CommandFailed: it ended with an error.
    """
    ended = subprocess.run(
        command, input=content, capture_output=True, text=True, check=False, timeout=timeout
    )
    if ended.returncode:
        raise CommandFailed(f"{' '.join(command)}: {ended.stderr or ended.stdout}")
    return ended.stdout


def _memory_group(pid: str) -> str:
    """Return the file that moves a process into the control group of another's memory."""
    groups = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    paths = {controllers: path for _, controllers, path in (line.split(":", 2) for line in groups)}
    root = f"/memory{paths['memory']}" if "memory" in paths else paths[""]
    return f"/sys/fs/cgroup{root}/cgroup.procs"


def _quietly(command: list[str]) -> None:
    with contextlib.suppress(CommandFailed):
        run(command)


def _unmount(folder: Path) -> None:
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for path in sorted((each for each in mounts if each.startswith(f"{folder}/")), reverse=True):
        _quietly(["umount", "-l", path])


def _remove_canaries() -> None:
    """Remove the chains that kubelet and kube-proxy leave behind."""
    chains = (
        *("KUBE-FIREWALL", "KUBE-IPTABLES-HINT"),
        *("KUBE-KUBELET-CANARY", "KUBE-PROXY-CANARY"),
    )
    for program in ("iptables", "ip6tables"):
        for table in ("filter", "nat", "mangle"):
            for chain in chains:
                for jump in ("INPUT", "OUTPUT"):
                    _quietly([program, "-t", table, "-D", jump, "-j", chain])
                _quietly([program, "-t", table, "-F", chain])
                _quietly([program, "-t", table, "-X", chain])


def _raise_weight() -> None:
    """Let the pods have as much of a busy machine as so many processes without a group have."""
    for path in ("kubepods", "kubepods/burstable"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"/sys/fs/cgroup/cpu/{path}/cpu.shares").write_text(_SHARES)
        with contextlib.suppress(FileNotFoundError):
            Path(f"/sys/fs/cgroup/{path}/cpu.weight").write_text(_WEIGHT)


def _remove_control_groups() -> None:
    for root in Path("/sys/fs/cgroup").glob("**/kubepods"):
        for path, _, _ in os.walk(root, topdown=False):
            with contextlib.suppress(OSError):
                Path(path).rmdir()


def _kubeconfig() -> Resource:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "local", "cluster": {"server": _API, "insecure-skip-tls-verify": True}}
        ],
        "users": [{"name": "admin", "user": {"token": _TOKEN}}],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": "admin"}}],
        "current-context": "local",
    }


def _network(folder: Path) -> Resource:
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": _PODS, "rangeStart": "10.201.0.10"}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": f"{folder}/addresses",
    }
    bridge = {
        "type": "bridge",
        "bridge": _BRIDGE,
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": addresses,
    }
    return {"cniVersion": "0.4.0", "name": "tailrace", "plugins": [bridge]}


def _containerd(folder: Path) -> str:
    return f"""
version = 2
root = "{folder}/containerd/root"
state = "{folder}/containerd/state"
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{_PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
"""


def _kubelet(folder: Path) -> Resource:
    """Return the configuration of the kubelet, for cgroup v1 and v2."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_IP,
        "port": 16250,
        "healthzPort": 16248,
        "readOnlyPort": 0,
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": f"unix://{folder}/containerd.sock",
        "clusterDNS": [NODE_IP],
        "clusterDomain": "cluster.local",
        "evictionHard": {"memory.available": "100Mi"},
        "enforceNodeAllocatable": ["pods"],
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "resolvConf": f"{folder}/resolv.conf",
        "nodeStatusUpdateFrequency": "4s",
        "registerNode": True,
        "maxPods": 60,
        "podLogsDir": f"{folder}/pod-logs",
    }


def main() -> int:
    """Start a cluster for use by hand; it ends with the standard input."""
    folder, kubectl, *images = sys.argv[1:]
    with Cluster(Path(folder), map(Path, images), kubectl) as cluster:
        sys.stdout.write(f"export KUBECONFIG={cluster.config}\n")
        sys.stdout.flush()
        sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
