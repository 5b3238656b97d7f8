#!/usr/bin/env python3
"""Measures `cotenant node` beside NVIDIA's device plugin: one kubelet, one simulated NVML, one configuration file, in turn.

    cargo build --release -p cotenant --bin cotenant
    cargo build --release -p cotenant-kubelet --example allocate
    target/debug/e2e-cluster --name peer up
    e2e/measure-device-plugins.py --peer PATH/nvidia-device-plugin --out results/simulated/DATE-device-plugins
    target/debug/e2e-cluster --name peer down

The kubelet is a real one; THE GPUS ARE SIMULATED. Every round is kept in rounds.json, which is written after each of them.

A plugin counts as registered when the kubelet has the 80 devices: it then writes its checkpoint, which is looked at
every 2 ms. Memory is that of the process alone, read `--rest` seconds after
registration, CPU time that of the `--watch` seconds after that; then 10,000 calls of Allocate follow each other on one
connection.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEVICES = 8
REPLICAS = 10
RESOURCE = "nvidia.com/gpu"
CALLS = 10_000
CONFIG = f"""version: v1
sharing:
  timeSlicing:
    resources:
    - name: {RESOURCE}
      replicas: {REPLICAS}
"""


def main():
    options = arguments()
    node = Node(options.cluster)
    node.prepare()
    programs = {"nvidia": node.peer(options.peer), "cotenant": node.agent(options.agent, api=False)}
    if options.with_api:
        programs["cotenant-with-api"] = node.agent(options.agent, api=True)
    run = {"simulated_gpus": DEVICES, "replicas": REPLICAS, "rest_s": options.rest, "watch_s": options.watch, "machine": machine(), "config": CONFIG,
           "versions": versions(options), "commands": {name: [pathlib.Path(words[0]).name, *words[1:]] for name, words in programs.items()}, "rounds": []}
    options.out.mkdir(parents=True, exist_ok=True)
    for number in range(1, options.rounds + 1):
        for name, command in programs.items():
            print(f"round {number} of {name}", flush=True)
            run["rounds"].append({"plugin": name, "round": number, **measure(node, command, options)})
            (options.out / "rounds.json").write_text(json.dumps(run, indent=1) + "\n")
    for row in table(run):
        print(row)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=pathlib.Path, required=True, help="NVIDIA's plugin, built from its repository")
    parser.add_argument("--agent", type=pathlib.Path, default=ROOT / "target/release/cotenant")
    parser.add_argument("--allocate", type=pathlib.Path, default=ROOT / "target/release/examples/allocate")
    parser.add_argument("--peer-version", default="unknown")
    parser.add_argument("--cluster", default="peer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rest", type=int, default=20, help="seconds from registration until memory is read")
    parser.add_argument("--watch", type=int, default=30, help="seconds of CPU time at rest")
    parser.add_argument("--with-api", action="store_true", help="also the agent with labels and the API server")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    return parser.parse_args()


class Node:
    """The node `n1` of a cluster of `e2e-cluster`, where plugins run as they would in a pod that sees the host."""

    def __init__(self, cluster):
        self.cluster = pathlib.Path("/run/cotenant-e2e") / cluster / "machines"
        self.folder = self.cluster / "n1"
        self.init = json.loads((self.folder / "init.json").read_text())["id"]
        self.plugins = pathlib.Path(f"/proc/{self.init}/root/var/lib/kubelet/device-plugins")

    def prepare(self):
        """The GPUs, the configuration, and a client of the API server that may label the node."""
        scenario = json.loads((self.folder / "world/scenario.json").read_text())
        first = scenario["gpus"][0]
        scenario["gpus"] = [gpu(first, number) for number in range(DEVICES)]
        draft = self.folder / "world/draft"
        draft.write_text(json.dumps(scenario))
        draft.rename(self.folder / "world/scenario.json")
        (self.folder / "files/plugins.yaml").write_text(CONFIG)
        for kind in ("crt", "key"):
            shutil.copy(self.cluster / f"control-plane/keys/administrator.{kind}", self.folder / "keys")
        client = (self.folder / "keys/kubelet.conf").read_text().replace("keys/kubelet.", "keys/administrator.")
        (self.folder / "keys/administrator.conf").write_text(client)

    def peer(self, program):
        return [str(program.resolve()), "--config-file=/run/e2e/files/plugins.yaml"]

    def agent(self, program, api):
        told = ["--kubeconfig=/run/e2e/keys/administrator.conf"] if api else ["--api=false"]
        return [str(program.resolve()), "node", "--config-file=/run/e2e/files/plugins.yaml", "--node-name=n1", *told]

    def start(self, command, log):
        enter = ["nsenter", "--target", str(self.init), "--mount", "--net", "--pid", "--ipc", "--uts", "--"]
        environment = {"PATH": os.environ["PATH"], "HOME": "/", "LD_LIBRARY_PATH": "/run/e2e/world"}
        return subprocess.Popen(enter + command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def registered(self, since):
        """Whether the kubelet has noted all devices since a time."""
        path = self.plugins / "kubelet_internal_checkpoint"
        try:
            if path.stat().st_mtime_ns < since:
                return False
            noted = json.loads(path.read_text())["Data"]["RegisteredDevices"].get(RESOURCE, [])
        except (FileNotFoundError, ValueError):
            return False
        return len(noted) == DEVICES * REPLICAS

    def socket_and_device(self):
        noted = json.loads((self.plugins / "kubelet_internal_checkpoint").read_text())["Data"]["RegisteredDevices"]
        sockets = [path for path in self.plugins.iterdir() if path.is_socket() and path.name != "kubelet.sock"]
        if len(sockets) != 1:
            raise SystemExit(f"not one plugin's socket: {sockets}")
        return sockets[0], sorted(noted[RESOURCE])[0]


def gpu(first, number):
    """The GPU with this number: as the first, but for what tells GPUs apart."""
    made = json.loads(json.dumps(first))
    made["uuid"] = f"GPU-00000000-0000-4000-8000-{number:012}"
    if isinstance(made.get("pci"), dict) and "bus" in made["pci"]:
        made["pci"]["bus"] = number + 1
    return made


def measure(node, command, options):
    result = {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "load_before": os.getloadavg()[0]}
    with (options.out / "last.log").open("wb") as log:
        since, start = time.time_ns(), time.monotonic()
        entered = node.start(command, log)
        try:
            until(lambda: node.registered(since), 60, entered)
            result["registered_ms"] = (time.monotonic() - start) * 1e3
            process = child(entered.pid)
            time.sleep(options.rest)
            result |= memory(process)
            before, asleep = cpu(process), time.monotonic()
            time.sleep(options.watch)
            result["cpu_ms_per_s"] = (cpu(process) - before) / (time.monotonic() - asleep) * 1e3
            result["load_at_rest"] = os.getloadavg()[0]
            socket, device = node.socket_and_device()
            said = subprocess.run([options.allocate, socket, device, str(CALLS)], check=True, capture_output=True)
            answer = json.loads(said.stdout)
            result["allocate_us"] = {name: answer[name] for name in ("p50", "p90", "p99", "max", "calls")}
            result["after_allocate"] = memory(process)
            result["load_after"] = os.getloadavg()[0]
            os.kill(process, signal.SIGTERM)
            entered.wait(30)
        finally:
            if entered.poll() is None:
                for one in children(entered.pid):
                    os.kill(one, signal.SIGKILL)
                entered.wait()
    time.sleep(3)
    return result


def until(holds, limit, process):
    deadline = time.monotonic() + limit
    while not holds():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("the plugin did not register; its output is in last.log")
        time.sleep(0.002)


def children(parent):
    return [int(word) for word in pathlib.Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def child(parent):
    """The process that `nsenter` started."""
    [only] = children(parent)
    return only


def memory(process):
    status = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{process}/status").read_text().splitlines())
    kib = {"rss_kib": "VmRSS", "anonymous_kib": "RssAnon", "threads": "Threads"}
    return {name: int(status[field].split()[0]) for name, field in kib.items()}


def cpu(process):
    """CPU time in seconds, of all threads, to the nanosecond (`/proc/PID/stat` counts in steps of 10 ms)."""
    threads = pathlib.Path(f"/proc/{process}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def machine():
    model = [line for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {"cores": os.cpu_count(), "cpu": model[0].split(":")[1].strip(), "kernel": os.uname().release}


def versions(options):
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    return {"cotenant": commit.stdout.strip(), "nvidia": options.peer_version,
            "bytes": {"cotenant": options.agent.stat().st_size, "nvidia": options.peer.stat().st_size}}


def table(run):
    """Minimum, median and maximum of each figure, as rows of Markdown."""
    names = list(dict.fromkeys(one["plugin"] for one in run["rounds"]))
    yield "| | " + " | ".join(names) + " |"
    yield "|---" * (len(names) + 1) + "|"
    for title, pick in (
        ("start to registered, ms", lambda one: one["registered_ms"]),
        ("RSS at rest, MiB", lambda one: one["rss_kib"] / 1024),
        ("of it anonymous, MiB", lambda one: one["anonymous_kib"] / 1024),
        ("RSS after 10,000 calls, MiB", lambda one: one["after_allocate"]["rss_kib"] / 1024),
        ("CPU at rest, ms a second", lambda one: one["cpu_ms_per_s"]),
        ("Allocate p50, µs", lambda one: one["allocate_us"]["p50"]),
        ("Allocate p99, µs", lambda one: one["allocate_us"]["p99"]),
        ("Allocate longest, µs", lambda one: one["allocate_us"]["max"]),
        ("load average", lambda one: one["load_at_rest"]),
    ):
        cells = []
        for name in names:
            values = sorted(pick(one) for one in run["rounds"] if one["plugin"] == name)
            shown = (values[0], values[len(values) // 2], values[-1])
            cells.append(" – ".join(f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value < 1 else f"{value:.1f}" for value in shown))
        yield f"| {title} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
