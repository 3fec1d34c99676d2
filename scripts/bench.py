"""Runs the server, an RTMP publisher, `sluice bench whep` and the floor together, and keeps the figures.

Called by scripts/bench, which builds and installs what is needed. Prints each figure with its ratio to the floor and to the
last figure of the same kind in benches/RESULTS.md, and adds a line there.
"""

import argparse
import datetime
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benches" / "RESULTS.md"
SERVER = ROOT / "target" / "release" / "sluice"
STREAM = "bench"

# One line of RESULTS.md: heading, and how the figure is written.
COLUMNS = [
    ("date", "{}"),
    ("revision", "{}"),
    ("machine", "{}"),
    ("load", "{:.1f}"),
    ("viewers", "{}"),
    ("packets/s", "{:.0f}"),
    ("floor ns", "{:.0f}"),
    ("server ns", "{:.0f}"),
    ("x floor", "{:.2f}"),
    ("above idle ns", "{:.0f}"),
    ("RSS KiB/viewer", "{:.0f}"),
    ("loss %", "{:.4f}"),
    ("keyframe p95 ms", "{:.1f}"),
    ("copies p99 ms", "{:.2f}"),
    ("one way p50 ms", "{:.2f}"),
    ("one way p99 ms", "{:.2f}"),
]
VIEWERS = COLUMNS.index(("viewers", "{}"))
# What is compared with the floor or with the last time; smaller is better in all of them.
COMPARED = [heading for heading, _ in COLUMNS[COLUMNS.index(("floor ns", "{:.0f}")) :]]

PREAMBLE = """# Results of scripts/bench

One line per run and number of viewers, newest last. Publisher: ffmpeg by RTMP, 1280x720, 30 frames/s, 2 Mb/s H.264
(zerolatency, 2 s between keyframes) and AAC; everything on one machine, over loopback.

- load: cores that others kept busy in the seconds before the run: above 0.3 the figures are rough
- floor ns: CPU per packet of header, copy, AES-128-GCM and GSO send alone, same frame sizes, same readers (`benches/floor.rs`);
  the middle one of three
- server ns: all CPU of the server process (ingest, AAC to Opus, RTCP, HTTP) per packet received by a viewer; above idle: less
  what it used without viewers
- keyframe p95: from a viewer's POST to its first keyframe packet
- copies p99: how far a copy arrives behind the earliest copy of the same packet (a lower bound of the forwarding delay)
- one way: from a synthetic WHIP publisher's send to a viewer's socket, in a run of its own with as many viewers

"""


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.split("\n\n")[0])
    parser.add_argument("--viewers", default="200,400", help="numbers of viewers, one measurement each (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=20, help="length of a measurement (default %(default)s)")
    parser.add_argument("--floor-seconds", type=float, default=5, help="length of each of the floor's three (default %(default)s)")
    parser.add_argument("--kbps", type=int, default=2000, help="bitrate of the video (default %(default)s)")
    parser.add_argument("--no-record", action="store_true", help="leave benches/RESULTS.md alone")
    return parser.parse_args()


class Children:
    """Processes that end with this one, whatever happens."""

    def __init__(self):
        self.running = []

    def start(self, command, **options):
        child = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, **options)
        self.running.append(child)
        return child

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # The newest first: a publisher leaves before its server does.
        for child in reversed(self.running):
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
            try:
                child.wait(timeout=10)
            except subprocess.TimeoutExpired:
                child.kill()


def start_server(children):
    command = [SERVER, "serve", "--print-addresses", "--log-level", "warn"]
    for door in ("http", "rtmp", "webrtc"):
        command += [f"--{door}-listen", "127.0.0.1:0"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    server = children.start(command, stdout=subprocess.PIPE, text=True, env=environment)
    line = server.stdout.readline()
    if not line:
        sys.exit("scripts/bench: the server did not start; its messages are above")
    return server, json.loads(line)


def start_publisher(children, address, kbps):
    rate = f"{kbps}k"
    command = [os.environ["SLUICE_FFMPEG"], "-hide_banner", "-loglevel", "error", "-re"]
    command += ["-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=30,noise=alls=6:allf=t"]
    command += ["-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"]
    command += ["-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-pix_fmt", "yuv420p", "-g", "60"]
    command += ["-b:v", rate, "-maxrate", rate, "-bufsize", rate, "-c:a", "aac", "-b:a", "128k"]
    command += ["-f", "flv", f"rtmp://{address}/live/{STREAM}"]
    return children.start(command)


def wait_until_live(http, publisher):
    url = f"http://{http}/api/v1/streams/{STREAM}"
    for _ in range(100):
        if publisher.poll() is not None:
            sys.exit("scripts/bench: the publisher ended; its messages are above")
        try:
            with urllib.request.urlopen(url, timeout=2):
                # The first keyframe, and the encoder's rate control.
                return time.sleep(3)
        except urllib.error.HTTPError as error:
            error.close()
        except OSError:
            pass
        time.sleep(0.2)
    sys.exit(f"scripts/bench: {url} is not live after 20 s")


def load_test(http, stream, viewers, seconds, more):
    command = [SERVER, "bench", "whep", "--json", "--url", f"http://{http}/whep/{stream}"]
    command += ["--viewers", viewers, "--duration", f"{seconds}s", *more]
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True, check=False)
    if not done.stdout.strip():
        sys.exit("scripts/bench: the load test gave no figures; its message is above")
    figures = json.loads(done.stdout)
    for reason, count in figures["failures"].items():
        print(f"  {count} viewers without media: {reason}", file=sys.stderr)
    if done.returncode != 0:
        sys.exit("scripts/bench: no viewer got media")
    return figures


def floor_binary():
    """Cargo gives benches a name with a hash; it says which when asked again."""
    command = ["cargo", "build", "--release", "--locked", "--bench", "floor", "--message-format=json", "--quiet"]
    listed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT).stdout
    messages = [json.loads(line) for line in listed.splitlines()]
    names = [m["executable"] for m in messages if m.get("target", {}).get("name") == "floor" and m.get("executable")]
    return names[-1]


def floor(binary, figures, viewers, seconds):
    command = [binary, "--json", "--viewers", viewers, "--seconds", seconds]
    command += ["--frames", figures["frames"]] if figures["frames"] else []
    if figures["audio_packet_bytes"]:
        rate = max(1, round(figures["audio_packets_per_second"]))
        command += ["--audio-bytes", figures["audio_packet_bytes"], "--audio-rate", rate]
    else:
        command += ["--audio-rate", 0]
    command = [str(word) for word in command]
    runs = [subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout for _ in range(3)]
    return sorted((json.loads(run) for run in runs), key=lambda run: run["ns_per_packet"])[1]


def revision():
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude", "*"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout.strip() or "unknown"


def busy_cores(seconds):
    """What others use of this machine now (proc(5), /proc/stat: idle and iowait are the fourth and fifth)."""

    def ticks():
        times = [int(word) for word in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(times), sum(times[3:5])

    all_before, idle_before = ticks()
    time.sleep(seconds)
    all_after, idle_after = ticks()
    passed = max(1, all_after - all_before)
    return os.cpu_count() * (1 - (idle_after - idle_before) / passed)


def line_of(viewers, load, figures, lowest, one_way):
    server, join = figures["server"], figures["join"]
    summary = lambda distribution, share: distribution[share] if distribution else float("nan")
    server_ns = server["cpu_us_per_packet"] * 1000
    return {
        "date": datetime.date.today().isoformat(),
        "revision": revision(),
        "machine": f"{figures['cpu_model']}, {os.cpu_count()} cores",
        "load": load,
        "viewers": viewers,
        "packets/s": figures["packets_per_second"],
        "floor ns": lowest["ns_per_packet"],
        "server ns": server_ns,
        "x floor": server_ns / lowest["ns_per_packet"],
        "above idle ns": server["cpu_us_per_packet_above_idle"] * 1000,
        "RSS KiB/viewer": (server["rss_per_viewer_bytes"] or 0) / 1024,
        "loss %": figures["loss_percent"],
        "keyframe p95 ms": summary(join["first_keyframe"], "p95_ms"),
        "copies p99 ms": summary(figures["behind_earliest_copy"], "p99_ms"),
        "one way p50 ms": summary(one_way, "p50_ms"),
        "one way p99 ms": summary(one_way, "p99_ms"),
    }


def last_lines():
    """The newest line of RESULTS.md for each number of viewers."""
    lines = {}
    if not RESULTS.exists():
        return lines
    for text in RESULTS.read_text().splitlines():
        cells = [cell.strip() for cell in text.strip().strip("|").split("|")]
        if len(cells) == len(COLUMNS) and cells[VIEWERS].isdigit():
            lines[int(cells[VIEWERS])] = dict(zip([heading for heading, _ in COLUMNS], cells))
    return lines


def show(line, last):
    print(f"\n{line['viewers']} viewers, {line['packets/s']:.0f} packets/s, {line['machine']}, {line['revision']}")
    formats = dict(COLUMNS)
    for heading in COMPARED:
        value = line[heading]
        text = f"  {heading:<16} {formats[heading].format(value):>10}"
        if heading in ("server ns", "above idle ns"):
            text += f"   {value / line['floor ns']:.2f} x the floor"
        try:
            before = float(last[heading])
            text += f"   {value / before:.2f} x the last ({last[heading]}, {last['revision']})" if before else ""
        except (KeyError, TypeError, ValueError):
            pass
        print(text)


def record(lines):
    if not RESULTS.exists():
        headings = [heading for heading, _ in COLUMNS]
        table = f"| {' | '.join(headings)} |\n|{' --- |' * len(headings)}\n"
        RESULTS.write_text(PREAMBLE + table)
    with RESULTS.open("a") as results:
        for line in lines:
            cells = [form.format(line[heading]) for heading, form in COLUMNS]
            results.write(f"| {' | '.join(cells)} |\n")
    print(f"\nadded to {RESULTS.relative_to(ROOT)}")


def main():
    args = arguments()
    load = busy_cores(3)
    binary, lines, last = floor_binary(), [], last_lines()
    with Children() as children:
        server, addresses = start_server(children)
        publisher = start_publisher(children, addresses["rtmp"], args.kbps)
        wait_until_live(addresses["http"], publisher)
        for viewers in (int(word) for word in args.viewers.split(",")):
            print(f"{viewers} viewers of the RTMP stream", file=sys.stderr)
            figures = load_test(addresses["http"], STREAM, viewers, args.seconds, ["--server-pid", server.pid])
            # Beside the same encoder and the idle server: the same neighbours on the same cores.
            lowest = floor(binary, figures, viewers, args.floor_seconds)
            print(f"{viewers} viewers of a stream that carries its send times", file=sys.stderr)
            stamped = ["--publish", "--publish-kbps", args.kbps]
            delays = load_test(addresses["http"], f"{STREAM}-delay", viewers, args.seconds / 2, stamped)
            lines.append(line_of(viewers, load, figures, lowest, delays["one_way_delay"]))
    for line in lines:
        show(line, last.get(line["viewers"]))
    if not args.no_record:
        record(lines)


if __name__ == "__main__":
    main()
