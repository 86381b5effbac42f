"""The daemon under test and its sandbox upstream, as processes of their own."""

import time
from pathlib import Path

import httpx

from .admin import Admin
from .ports import free_port
from .process import PATIENCE, Process, run


class Gateway(Process):
    """One `tallygate serve` with its own directory, ports and store. Settings: {"relay": {"timeout": "2s"}}."""

    def __init__(self, directory, settings=None, name="gateway"):
        super().__init__(directory, name)
        self.public_port, self.admin_port = free_port(), free_port()
        self.config = self.directory / f"{name}.conf"
        self.database = self.directory / f"{name}.db"
        self.settings = {
            "public": {"listen": f"127.0.0.1:{self.public_port}"},
            "admin": {"listen": f"127.0.0.1:{self.admin_port}"},
            "store": {"url": f"sqlite:{self.database}"},
            "relay": {"connect_timeout": "2s"},
            "server": {"threads": "2", "log_level": "debug"},
        }
        for section, keys in (settings or {}).items():
            self.settings.setdefault(section, {}).update(keys)
        self.write_config()
        self._admin = None
        self.token = None

    def write_config(self):
        lines = []
        for section, keys in self.settings.items():
            lines.append(f"[{section}]")
            for key, value in keys.items():
                for item in value if isinstance(value, list) else [value]:
                    lines.append(f"{key} = {item}")
        self.config.write_text("\n".join(lines) + "\n")

    @property
    def scheme(self):
        return "https" if self.settings["public"].get("tls_certificate") else "http"

    @property
    def public_url(self):
        return f"{self.scheme}://127.0.0.1:{self.public_port}"

    @property
    def base_url(self):
        """What an SDK takes as its base URL."""
        return self.public_url + "/v1"

    @property
    def admin_url(self):
        return f"http://127.0.0.1:{self.admin_port}"

    def create_token(self, *args):
        """`admin-token create`; the secret is alone on the first line."""
        done = run("admin-token", "create", "-c", self.config, "--name", "tests", *args)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[0].strip()

    def start(self, wait=True, preexec_fn=None):
        if self.token is None:
            self.token = self.create_token()
        self.spawn("serve", "-c", self.config, preexec_fn=preexec_fn)
        if wait:
            self.wait_until(self.alive, "healthy")
        return self

    def alive(self):
        try:
            return httpx.get(self.admin_url + "/healthz", timeout=2, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def ready(self):
        return httpx.get(self.admin_url + "/readyz", timeout=5, trust_env=False)

    def metrics(self):
        """Every sample by its name and labels, as /metrics spells them."""
        text = httpx.get(self.admin_url + "/metrics", timeout=5 * PATIENCE, trust_env=False).text
        return {k: float(v) for k, v in (line.rsplit(" ", 1) for line in text.splitlines() if line and line[0] != "#")}

    @property
    def admin(self):
        if self._admin is None:
            self._admin = Admin(self.admin_url, self.token)
        return self._admin

    def stop(self):
        """A clean stop: exit 0 and no sanitizer's complaint."""
        if self._admin is not None:
            self._admin.close()
            self._admin = None
        if self.child is None:
            return
        code = self.terminate()
        assert code == 0, f"exit {code} after TERM:\n{self.text()[-4000:]}"

    def restart(self):
        self.stop()
        return self.start()

    def kill(self):
        if self._admin is not None:
            self._admin.close()
            self._admin = None
        super().kill()

    def fsck(self):
        """Every invariant holds, or the test fails with the lines that say which does not."""
        done = run("fsck", "-c", self.config)
        assert done.returncode == 0, f"fsck exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def channel(self, upstream, models=None, **more):
        """A channel to <upstream> (Sandbox, ScriptedUpstream or a base URL) that serves <models> under their own names."""
        base = upstream if isinstance(upstream, str) else upstream.base_url
        names = models or ["dall-e-2", "dall-e-3", "gpt-image-1", "gpt-image-1-mini", "gpt-image-1.5", "gpt-image-2"]
        body = {"name": more.pop("name", "upstream"), "kind": more.pop("kind", "openai"), "base_url": base,
                "api_key": more.pop("api_key", "sk-upstream-secret-credential-0001"),
                "models": names if isinstance(names, dict) else {n: n for n in names}}
        body.update(more)
        return self.admin.create("channels", body)

    def wait_for(self, condition, what, timeout=10):
        """Polls until <condition> is true while the daemon runs."""
        end = time.monotonic() + timeout * PATIENCE
        while time.monotonic() < end:
            value = condition()
            if value:
                return value
            assert self.running, f"the gateway exited:\n{self.text()[-4000:]}"
            time.sleep(0.05)
        raise AssertionError(f"{what}: not within {timeout * PATIENCE} s\n{self.text()[-2000:]}")


class Sandbox(Process):
    """One `tallygate sandbox`."""

    def __init__(self, directory, name="sandbox"):
        super().__init__(directory, name)
        self.port = free_port()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self):
        return self.url + "/v1"

    def start(self):
        self.spawn("sandbox", "--listen", f"127.0.0.1:{self.port}")
        self.wait_until(self.alive, "answering")
        return self

    def alive(self):
        try:
            self.served()
            return True
        except (httpx.HTTPError, ValueError):
            return False

    def served(self):
        return httpx.get(self.url + "/sandbox/served", timeout=5, trust_env=False).json()

    def stop(self):
        code = self.terminate()
        assert code == 0, f"sandbox: exit {code} after TERM:\n{self.text()[-4000:]}"


def certificate(directory, host="IP:127.0.0.1", name=""):
    """A self-signed certificate for <host>: (certificate file, key file)."""
    import subprocess
    cert, key = Path(directory) / f"{name}cert.pem", Path(directory) / f"{name}key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tests",
                    "-addext", f"subjectAltName={host}", "-keyout", str(key), "-out", str(cert)],
                   check=True, capture_output=True)
    return cert, key
