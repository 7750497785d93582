"""The page in a real browser: no error, no request, players that play, a case that is found."""

import json
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from advgan.report.assemble import flac, spectrogram
from advgan.report.page import page
from advgan.report.schema import (
    AttackSummary,
    Case,
    Cell,
    Curve,
    CurvePoint,
    DefenceSummary,
    DetLine,
    Histogram,
    LimitCheck,
    PairInfo,
    Rate,
    Report,
    RunProvenance,
    Threat,
    Timing,
    Verdict,
    Worst,
)

CASES = 2_000
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Said to the page's own server, in a copy of the page whose policy lets it.
PROBE = """<script>
const wrong = [];
addEventListener("error", (event) => wrong.push(event.message));
addEventListener("securitypolicyviolation", (event) => wrong.push(event.blockedURI));
addEventListener("load", async () => {
  const loaded = performance.now();
  document.querySelector("details.cases").open = true;
  document.getElementById("find-text").value = "pgd 1234.0";
  document.getElementById("find-text").dispatchEvent(new Event("input"));
  const found = document.getElementById("find-said").textContent;
  const times = [];
  for (const player of document.querySelectorAll("audio")) {
    try { await player.play(); } catch (error) { wrong.push(String(error)); }
    for (let i = 0; i < 100 && !player.currentTime; i += 1)
      await new Promise((resolve) => setTimeout(resolve, 30));
    times.push(player.currentTime);
  }
  const focus = [];
  document.querySelectorAll("a, input, select, summary, audio, [tabindex]").forEach((part) => {
    part.focus(); focus.push(document.activeElement === part); });
  const fetched = performance.getEntriesByType("resource").map((entry) => entry.name);
  fetch("/said", { method: "POST", body: JSON.stringify({ wrong, loaded, found, times, focus,
    pictures: [...document.images].map((image) => image.naturalWidth),
    fetched: fetched.filter((name) => !name.startsWith("data:")) }) });
});
</script>"""


@pytest.fixture(scope="module")
def report() -> Report:
    """2,000 made-up cases, and one that can be heard."""
    rng = np.random.default_rng(0)
    rate = Rate(value=0.5, low=0.4, high=0.6, count=1_000, cases=CASES)
    tone = (0.2 * np.sin(np.arange(16_000) / 5)).astype(np.float32)
    attack = AttackSummary(
        index=0, name="pgd", title="pgd[epsilon=0.002]", family="gradient", label="spoof",
        knowledge="weights", about="Many steps.", against="none", budget={"epsilon": 0.002},
        cases=CASES, outcomes={"judged": CASES}, cells={"none": Cell(accepted=rate)}, points={},
        quality={"snr": 30.0}, peers={"other": rate},
    )  # fmt: skip
    defence = DefenceSummary(
        title="none", about="Alone.", run=True, detects=False, genuine_rejected=rate,
        strangers_accepted=rate, eer=0.1,
    )  # fmt: skip
    pairs = [
        PairInfo(source=f"a/{i}.wav", target=f"b/{i}.wav", enrol=["b/x.wav"], line=i,
                 source_speaker=f"a{i}", target_speaker=f"b{i}", voice="low voice", usable=True)
        for i in range(CASES)
    ]  # fmt: skip
    cases = [
        Case(id=f"{i}.0", pair=i, attack=0, outcome="judged", accepted=i % 2 == 0,
             scores={"none": float(rng.random())}, suspicion={}, peers={}, quality={"snr": 30.0},
             queries=0, crc=i)
        for i in range(CASES)
    ]  # fmt: skip
    clips = ("source", "target", "attack")
    return Report(
        verdict=Verdict(
            passed=False, policy="p", policy_sha256="0", point="fa-1%", defence="none",
            judge="estimate", sentence="One limit is broken.",
            checks=[LimitCheck(what="pgd", attack=0, limit=0.1, value=0.5, passed=False)],
        ),
        threat=Threat(
            model="guard", fingerprint="f", point="fa-1%", threshold=0.5, threshold_from="trials",
            points={"fa-1%": 0.5}, knowledge={}, epsilon=[0.002], queries=[], target_seconds=3,
            seen="one recording", overlap="0",
        ),
        attacks=[attack], defences=[defence], edges=[0.0, 0.5, 1.0],
        histograms=[Histogram(population="genuine", counts=[1, 2])],
        det=[DetLine(name="gradient", eer=0.5, p_fa=[1.0, 0.5, 0.0], p_miss=[0.0, 0.5, 1.0])],
        curves=[Curve(name="pgd", axis="epsilon", points=[
            CurvePoint(at=at, accepted=rate, quality={}) for at in (0.001, 0.002)])],
        groups=[], pairs=pairs, cases=cases, problems=[], limits=["Be careful."],
        worst=[Worst(case="0.0", score=0.9, margin=0.4, replayed=0.9, command="x --case 0.0",
                     audio={name: flac(tone) for name in clips},
                     pictures={name: spectrogram(tone) for name in clips})],
        provenance=RunProvenance(
            version="1", code="c", suite="s", suite_sha256="0", data="d", data_sha256="0",
            pairs_used=1, pairs_listed=1, seed=0, machine={}, packages={},
        ),
        timing=Timing(started="now", seconds=1, workers=1, case_seconds={}),
    )  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> str:
    for name in BROWSERS:
        if found := shutil.which(name):
            return found
    pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")


def visit(browser: str, html: str, profile: Path) -> tuple[dict[str, Any], list[str]]:
    """What the probe in a page says, and the paths that the page's server was asked for."""
    said: list[dict[str, Any]] = []
    asked: list[str] = []
    told = threading.Event()

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(html.encode())

        def do_POST(self) -> None:
            said.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()
            told.set()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--mute-audio", "--no-first-run",
               "--autoplay-policy=no-user-gesture-required", "--disable-background-networking",
               "--remote-debugging-port=0", f"--user-data-dir={profile}"]  # fmt: skip
    url = f"http://127.0.0.1:{server.server_address[1]}/"
    ran = subprocess.Popen(
        [browser, *options, url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        assert told.wait(90), "the page's probe said nothing within 90 s"
    finally:
        ran.kill()
        ran.wait()
        server.shutdown()
        server.server_close()
    return said[0], asked


def test_the_page_in_a_browser(report: Report, browser: str, tmp_path: Path) -> None:
    html = page(report)
    assert "default-src 'none';" in html
    copy = html.replace("default-src 'none';", "default-src 'none'; connect-src 'self';")
    copy = copy.replace("<main>", PROBE + "<main>")
    said, asked = visit(browser, copy, tmp_path)
    assert said["wrong"] == []
    assert said["fetched"] == []
    assert asked == ["/"]
    assert said["found"] == f"1 of {CASES} cases"
    assert len(said["times"]) == 3
    assert all(time > 0 for time in said["times"])
    assert said["pictures"] == [said["pictures"][0]] * 3
    assert said["pictures"][0] > 50
    assert said["focus"]
    assert all(said["focus"])
    assert said["loaded"] < 20_000  # ms, on a busy machine


def test_2000_cases_stay_small(report: Report) -> None:
    assert len(page(report).encode()) < 1_500_000
