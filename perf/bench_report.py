"""Turns the numbers of run_bench.py into a table, with ratios and a verdict on each target."""
import os
import platform
import re
import statistics
import subprocess

ORDER = ["penstock-io_uring", "penstock-epoll", "floor", "haproxy", "nginx", "direct"]

# (scenario pattern, metric, against, at most): the product's targets.
RATIO_TARGETS = [
    (r"1 KiB requests, wrk", "CPU us/request", "haproxy", 0.9),
    (r"1 KiB requests, wrk", "CPU us/request", "floor", 1.35),
    (r"SSE, \d", "CPU us/chunk", "haproxy", 0.8),
    (r"SSE, \d", "CPU us/chunk", "floor", 1.2),
    (r"SSE, .* bursts", "due to read p99 us", "floor", 1.2),
]
VALUE_TARGETS = [("memory", "bytes per idle connection", 2048), ("memory", "bytes per stream", 8192)]
PROMPTS = re.compile(r"220 KB prompts, (\d+) at a time")


def number(value):
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}"


def medians(results):
    return {key: {name: statistics.median(values) for name, values in by_name.items()}
            for key, by_name in results.items()}


def spread(values):
    """Half of the range around the median, in percent."""
    middle = statistics.median(values)
    return 100 * (max(values) - min(values)) / 2 / middle if middle else 0


def cells(results, key, columns):
    by_name = results[key]
    haproxy = by_name.get("haproxy")
    floor = by_name.get("floor")
    texts = []
    for name in columns:
        values = by_name.get(name)
        if not values:
            texts.append("-")
            continue
        value = statistics.median(values)
        text = number(value)
        if len(values) > 1 and spread(values) >= 0.5:
            text += f" ±{spread(values):.0f} %"
        ratios = []
        for base_name, base in (("haproxy", haproxy), ("floor", floor)):
            if base and name != base_name and name != "direct" and statistics.median(base):
                ratios.append(f"{value / statistics.median(base):.2f}")
            else:
                ratios.append("-")
        if key[1] != "errors" and ratios != ["-", "-"]:
            text += f" ({' / '.join(ratios)})"
        texts.append(text)
    return texts


def table(results):
    """Rows of text: a header, then one row for each metric of each scenario; error rows only when not zero."""
    present = {name for by_name in results.values() for name in by_name}
    columns = [name for name in ORDER if name in present]
    rows = [["scenario", "metric"] + columns]
    for key in results:
        if key[1] == "errors" and not any(sum(values) for values in results[key].values()):
            continue
        rows.append([key[0], key[1]] + cells(results, key, columns))
    return rows


def verdicts(results):
    """(text, met) for each target that the run could judge."""
    middle = medians(results)
    lines = []
    for name in ("penstock-io_uring", "penstock-epoll"):
        for (scenario, metric), by_name in middle.items():
            if name not in by_name:
                continue
            for pattern, wanted, base, limit in RATIO_TARGETS:
                if metric == wanted and re.match(pattern, scenario) and by_name.get(base):
                    ratio = by_name[name] / by_name[base]
                    lines.append((f"{name}: {scenario}: {metric}: {ratio:.2f} of {base}'s, target {limit}", ratio <= limit))
            for wanted_scenario, wanted, limit in VALUE_TARGETS:
                if (scenario, metric) == (wanted_scenario, wanted):
                    lines.append((f"{name}: {metric}: {by_name[name]:,.0f}, target {limit:,}", by_name[name] <= limit))
        lines += prompt_verdict(middle, name)
    return lines


def prompt_verdict(middle, name):
    rates = {}
    for (scenario, metric), by_name in middle.items():
        found = PROMPTS.match(scenario)
        if found and metric == "requests/s" and name in by_name:
            rates[int(found[1])] = by_name[name]
    if len(rates) < 2:
        return []
    low, high = min(rates), max(rates)
    share = rates[high] / rates[low]
    text = f"{name}: 220 KB prompts: throughput at {high} at a time {share:.2f} of that at {low}, target 0.95"
    return [(text, share >= 0.95)]


def first_line(argv, env_path):
    try:
        done = subprocess.run(argv, capture_output=True, text=True, env={**os.environ, "PATH": env_path})
        return (done.stdout + done.stderr).strip().splitlines()[0]
    except (OSError, IndexError):
        return ""


def conditions(options):
    path = os.environ["PATH"] + ":/usr/sbin"
    with open("/proc/cpuinfo") as f:
        model = re.search(r"model name\s*: (.*)", f.read())
    lines = [f"Linux {platform.release().split('-')[0]}, {model[1] if model else platform.machine()}, "
             f"{os.cpu_count()} CPUs; gateway on CPU {options.gateway_cpu}, load and back ends on CPU {options.load_cpu}",
             f"{options.reps} interleaved repetitions of {options.seconds:g} s in random order (seed {options.seed}); "
             "median, ± half the range; in brackets: ratio to HAProxy / to the floor"]
    for argv in (["haproxy", "-v"], ["nginx", "-v"]):
        line = first_line(argv, path)
        if line:
            lines.append(re.sub(r"\s*(- )?https?://\S*", "", line))
    lines.append("Penstock: routing, metrics and access log on, one shard. HAProxy and nginx: one thread, no log, "
                 "buffering off, keep-alive on both sides, round robin over 8 back ends.")
    return lines


def plain(results, options, missing):
    rows = table(results)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    out = conditions(options) + [""]
    out += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    out += [""] + [f"{'met ' if met else 'LOST'}  {text}" for text, met in verdicts(results)]
    out += [f"missing: {name}: {why}" for name, why in missing.items()]
    return "\n".join(out)


def markdown(results, options, missing):
    rows = table(results)
    out = [f"- {line}" for line in conditions(options)] + [""]
    out += ["| " + " | ".join(rows[0]) + " |", "|" + " --- |" * len(rows[0])]
    out += ["| " + " | ".join(row) + " |" for row in rows[1:]]
    out += ["", "| target | verdict |", "| --- | --- |"]
    out += [f"| {text} | {'met' if met else '**lost**'} |" for text, met in verdicts(results)]
    out += [""] + [f"- not measured: {name} ({why})" for name, why in missing.items()]
    return "\n".join(out).rstrip() + "\n"
