"""A throw-away JupyterLab on this machine, and the steps a reader takes in it."""

import contextlib
import ctypes
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
SETTINGS = {  # every cell stays in the page; no questions, no news, nothing saved behind the test's back
    "notebook-extension/tracker": {"windowingMode": "none"},
    "docmanager-extension/plugin": {"autosave": False},
    "apputils-extension/notification": {"fetchNews": "false", "doNotDisturbMode": True},
}
FOLDERS = {
    "HOME": "home",
    "JUPYTER_CONFIG_DIR": "config",
    "JUPYTER_DATA_DIR": "data",
    "JUPYTER_RUNTIME_DIR": "runtime",
    "JUPYTERLAB_SETTINGS_DIR": "settings",
    "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    "IPYTHONDIR": "ipython",
    "MPLCONFIGDIR": "matplotlib",
    "FIGURES_DIR": "figures",
}
KERNEL_IS_IDLE = """() => {
    const session = window.jupyterapp?.shell.currentWidget?.sessionContext, kernel = session?.session?.kernel;
    return Boolean(session?.isReady && kernel?.connectionStatus === 'connected' && kernel.status === 'idle');
}"""
ASK = """async expression => {
    const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    const code = {code: '', silent: true, store_history: false, user_expressions: {found: expression}};
    return (await kernel.requestExecute(code).done).content.user_expressions.found; }"""
RUN_ALL = """limit => Promise.race([
    jupyterapp.commands.execute('notebook:run-all-cells'),
    new Promise((_, refuse) => setTimeout(() => refuse(new Error('not through after ' + limit + ' ms')), limit))])"""


@contextlib.contextmanager
def chromium():
    """A browser that reaches this machine alone; without one, tests are skipped unless REQUIRE_BROWSER is set."""
    if CHROMIUM is None:
        absent = pytest.fail if os.environ.get("REQUIRE_BROWSER") else pytest.skip
        absent("no Chromium on this machine (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    network = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--force-color-profile=srgb", network],
        )
        yield browser
        browser.close()


@contextlib.contextmanager
def jupyterlab(notebook, folder, theme="JupyterLab Light"):
    """Serve a copy of one notebook; yields the address of its page."""
    root, settings = folder / "root", folder / "settings" / "@jupyterlab"
    root.mkdir()
    shutil.copy(notebook, root)
    token = secrets.token_hex(16)
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    environment |= {name: str(folder / path) for name, path in FOLDERS.items()} | {
        "JUPYTER_TOKEN": token
    }
    for path in FOLDERS.values():
        (folder / path).mkdir(exist_ok=True)
    for name, values in (SETTINGS | {"apputils-extension/themes": {"theme": theme}}).items():
        file = settings / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--ip=127.0.0.1",
        "--port=0",
        f"--notebook-dir={root}",
    ]
    command += [
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.extension_manager=readonly",
        "--allow-root",
    ]
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen(
            command,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
    try:
        address = _address(server, folder)

        yield f"{address}doc/tree/{notebook.name}?token={token}&reset"
    finally:
        server.send_signal(signal.SIGTERM)  # the server ends its kernels
        with contextlib.suppress(ProcessLookupError):
            try:
                server.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)


def open_and_run(page, address):
    """Open the notebook, wait until its kernel can take work (before that, Run All does nothing), run every cell."""
    page.goto(address, wait_until="domcontentloaded")
    page.wait_for_function(KERNEL_IS_IDLE, timeout=90_000)
    assert page.evaluate(RUN_ALL, 180_000) is True, "a cell failed"


def ask(page, expression):
    """What `expression` is in the kernel of the open notebook, as repr gives it."""
    found = page.evaluate(ASK, expression)
    assert found["status"] == "ok", found
    return found["data"]["text/plain"]


def _address(server, folder, limit=60):
    """The server writes the port that it got into a file of its own."""
    started = time.monotonic()
    while time.monotonic() - started < limit:
        assert server.poll() is None, (folder / "log").read_text()[-3000:]
        with contextlib.suppress(OSError, ValueError):
            return json.loads((folder / "runtime" / f"jpserver-{server.pid}.json").read_text())[
                "url"
            ]
        time.sleep(0.1)
    raise TimeoutError((folder / "log").read_text()[-3000:])


def _end_with_parent():
    if (
        sys.platform == "linux"
    ):  # however the tests end, the server gets SIGTERM (prctl PR_SET_PDEATHSIG)
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
