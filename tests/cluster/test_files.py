"""The cluster files: each held to the schema of what reads it, and to what is promised of them.

Every check is seen to refuse a key with a typing error. Schemas that leave room are made strict.
"""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILES = ROOT / "examples" / "cluster"
CLOUDS = ("aws", "gcp")
KUBERNETES = "1.37"
SHELLCHECK = Path(sys.executable).parent / "shellcheck"


def read(name: str) -> Any:
    """The documents of a file: one, or a list of several."""
    found = list(yaml.safe_load_all((FILES / name).read_text()))
    return found[0] if len(found) == 1 else found


def wrongs(schema: dict[str, Any], content: Any) -> list[str]:
    kind = jsonschema.validators.validator_for(schema, jsonschema.Draft7Validator)
    return [f"{error.json_path}: {error.message}" for error in kind(schema).iter_errors(content)]


def misspelt(content: Any, *path: str | int) -> Any:
    """A copy in which the last key of `path` has a letter too many."""
    changed = copy.deepcopy(content)
    *parents, key = path
    place = changed
    for step in parents:
        place = place[step]
    place[f"{key}x"] = place.pop(key)
    return changed


# ray up

# What is free in Ray's schema: the machines, as boto3's `create_instances` and Google's
# `instances.insert` take them, and the provider.
NODE_KEYS = {
    "aws": {
        "InstanceType": str,
        "SecurityGroupIds": list,
        "IamInstanceProfile": dict,
        "MetadataOptions": dict,
        "BlockDeviceMappings": list,
        "InstanceMarketOptions": dict,
    },
    "gcp": {
        "machineType": str,
        "disks": list,
        "networkInterfaces": list,
        "serviceAccounts": list,
        "guestAccelerators": list,
        "scheduling": dict,
    },
}
PROVIDER_KEYS = {"type", "region", "availability_zone", "cache_stopped_nodes"} | {
    "project_id",
    "use_internal_ips",
}


def cloud_wrongs(cloud: str, content: dict[str, Any]) -> list[str]:
    # Found, not imported: Ray reads its token's place when it is imported.
    package = Path(str(find_spec("ray").origin)).parent  # type: ignore[union-attr]
    schema = json.loads((package / "autoscaler/ray-schema.json").read_text())
    provider = schema["properties"]["provider"]
    provider["additionalProperties"] = False
    provider["properties"] = {
        key: rule for key, rule in provider["properties"].items() if key in PROVIDER_KEYS
    }
    found = wrongs(schema, content)
    for name, node in content["available_node_types"].items():
        for key, value in node.get("node_config", {}).items():
            kind = NODE_KEYS[cloud].get(key)
            if kind is None or not isinstance(value, kind):
                found.append(f"{name}: no node_config has {key}: {value}")
    return found


@pytest.mark.ray
@pytest.mark.parametrize("cloud", CLOUDS)
def test_ray_up_takes_the_file(ray: Any, cloud: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    content = read(f"{cloud}.yaml")
    assert cloud_wrongs(cloud, content) == []
    validate_config(prepare_config(copy.deepcopy(content)))


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize(
    "path",
    [
        ("max_workers",),
        ("docker", "worker_image"),
        ("provider", "region"),
        ("available_node_types", "gpu", "min_workers"),
        ("available_node_types", "gpu", "node_config"),
        ("head_start_ray_commands",),
    ],
)
def test_ray_up_refuses_a_typo(cloud: str, path: tuple[str, ...]) -> None:
    assert cloud_wrongs(cloud, misspelt(read(f"{cloud}.yaml"), *path))


@pytest.mark.parametrize(
    ("cloud", "key"), [("aws", "InstanceMarketOptions"), ("gcp", "scheduling")]
)
def test_gpu_workers_are_spot_and_the_head_is_not(cloud: str, key: str) -> None:
    content = read(f"{cloud}.yaml")
    types = content["available_node_types"]
    assert "spot" in json.dumps(types["gpu"]["node_config"][key]).lower()
    assert types["gpu"]["resources"]["GPU"] == 1
    assert types["gpu"]["min_workers"] == 0
    assert key not in types["head"]["node_config"]
    assert types["head"]["resources"]["CPU"] == 0
    path = ("available_node_types", "gpu", "node_config", key)
    assert cloud_wrongs(cloud, misspelt(content, *path))


def test_amazon_takes_the_machines() -> None:
    botocore = pytest.importorskip("botocore.session")
    model = botocore.get_session().get_service_model("ec2")
    shape = model.operation_model("RunInstances").input_shape
    from botocore.validate import ParamValidator

    for node in read("aws.yaml")["available_node_types"].values():
        asked = node["node_config"] | {"MinCount": 1, "MaxCount": 1}
        assert not ParamValidator().validate(asked, shape).has_errors()
        assert ParamValidator().validate(misspelt(asked, "InstanceType"), shape).has_errors()


# Kubernetes


def strict(schema: Any) -> Any:
    """The schema of a custom resource, refusing every field it does not name."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: strict(value) for key, value in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    if (
        isinstance(schema.get("properties"), dict)
        and "additionalProperties" not in schema
        and not schema.get("x-kubernetes-preserve-unknown-fields")
    ):
        out["additionalProperties"] = False
    return out


@pytest.fixture(scope="module")
def ray_job() -> dict[str, Any]:
    path = ROOT / "shared" / "data" / "kuberay" / "rayjobs.crd.yaml"
    if not path.exists():
        path = ROOT.parent / "shared" / "data" / "kuberay" / "rayjobs.crd.yaml"
    if not path.exists():
        pytest.skip(f"needs KubeRay's definition of a RayJob in {path}")
    definition = yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    version = next(v for v in definition["spec"]["versions"] if v["name"] == "v1")
    schema: dict[str, Any] = strict(version["schema"]["openAPIV3Schema"])
    # Every Kubernetes object's own; the definition leaves it open.
    schema["properties"]["metadata"] = {
        "type": "object",
        "properties": {"name": {"type": "string"}},
        "additionalProperties": False,
    }
    return schema


def test_kuberay_takes_the_job_and_no_typo(ray_job: dict[str, Any]) -> None:
    _, job, _ = read("rayjob.yaml")
    assert job["apiVersion"] == "ray.io/v1"
    assert wrongs(ray_job, job) == []
    worker = ("spec", "rayClusterSpec", "workerGroupSpecs", 0)
    container = (*worker, "template", "spec", "containers", 0)
    for path in [
        ("spec", "entrypoint"),
        ("spec", "shutdownAfterJobFinishes"),
        ("spec", "rayClusterSpec", "authOptions"),
        ("spec", "rayClusterSpec", "authOptions", "mode"),
        ("spec", "rayClusterSpec", "headGroupSpec", "serviceType"),
        (*worker, "maxReplicas"),
        (*container, "resources"),
        (*container, "securityContext", "allowPrivilegeEscalation"),
    ]:
        assert wrongs(ray_job, misspelt(job, *path)), path


def test_kubernetes_takes_the_rest_and_no_typo() -> None:
    settings, _, policy = read("rayjob.yaml")
    for content, typo in ((settings, ("data",)), (policy, ("spec", "policyTypes"))):
        kubernetes_validate.validate(content, KUBERNETES, strict=True)
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(misspelt(content, *typo), KUBERNETES, strict=True)


def test_the_pods_are_fenced_in() -> None:
    settings, job, policy = read("rayjob.yaml")
    cluster = job["spec"]["rayClusterSpec"]
    templates = [
        job["spec"]["submitterPodTemplate"],
        cluster["headGroupSpec"]["template"],
        *(group["template"] for group in cluster["workerGroupSpecs"]),
    ]
    label = policy["spec"]["podSelector"]["matchLabels"]
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    for template in templates:
        assert label.items() <= template["metadata"]["labels"].items()
        assert template["spec"]["securityContext"]["runAsNonRoot"]
        for container in template["spec"]["containers"]:
            assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert all(rule.get("from") for rule in policy["spec"]["ingress"])
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert "spot" in json.dumps(cluster["workerGroupSpecs"][0]["template"]["spec"]["nodeSelector"])
    volume = cluster["headGroupSpec"]["template"]["spec"]["volumes"][0]
    assert volume["configMap"]["name"] == settings["metadata"]["name"]


def test_the_spec_in_the_job_is_one(tmp_path: Path) -> None:
    from pipeline import spec

    path = tmp_path / "spec.yaml"
    path.write_text(read("rayjob.yaml")[0]["data"]["spec.yaml"])
    assert spec.read(str(path)).store == "s3://BUCKET/runs/bowl.zarr"


# Compose


def test_compose_takes_the_file_and_no_typo() -> None:
    vendored = resources.files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json"
    schema = json.loads(vendored.read_text())
    content = read("compose.yaml")
    assert wrongs(schema, content) == []
    for path in [
        ("services", "head", "healthcheck"),
        ("services", "worker", "depends_on"),
        ("services", "gpu", "deploy", "resources", "reservations"),
        ("secrets", "ray_token", "file"),
    ]:
        assert wrongs(schema, misspelt(content, *path)), path


def test_compose_listens_on_loopback_only() -> None:
    for service in read("compose.yaml")["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        assert service["environment"]["RAY_AUTH_MODE"] == "token"
        assert service["secrets"] == ["ray_token"]


# Slurm, and the commands in all of them


@pytest.mark.parametrize("script", ["slurm.sh", "drive.sh"])
def test_shell_takes_the_script(script: str, tmp_path: Path) -> None:
    path = FILES / script
    if script == "drive.sh":
        path = tmp_path / script
        path.write_text("#!/bin/sh\n" + read("rayjob.yaml")[0]["data"][script])
    assert subprocess.run(["bash", "-n", path], check=False).returncode == 0
    done = subprocess.run([SHELLCHECK, path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_slurm_starts_the_same_render_on_every_node(tmp_path: Path) -> None:
    stubs = {
        "scontrol": "echo node7; echo node8",
        "getent": 'echo "10.0.0.7 STREAM $2"',
        "srun": 'printf "%s\\n" "$@"; echo "$RAY_AUTH_MODE $RAY_AUTH_TOKEN_PATH"',
        "ray": '[ "$1" = get-auth-token ] && mkdir -p ~/.ray && echo secret > ~/.ray/auth_token',
    }
    for name, line in stubs.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)
    (tmp_path / "a spec.yaml").touch()
    environment = {
        "PATH": f"{tmp_path}/bin:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "LOSSATLAS_VENV": str(tmp_path),
        "SLURM_JOB_ID": "41007",
        "SLURM_JOB_NODELIST": "node[7-8]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_PER_TASK": "8",
    }
    done = subprocess.run(
        [FILES / "slurm.sh", "a spec.yaml", "--device", "cuda"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    *words, authentication = done.stdout.splitlines()
    token = tmp_path / ".ray" / "auth_token"
    assert token.stat().st_mode & 0o777 == 0o600
    assert authentication == f"token {token}"
    assert words[words.index("ray") :] == [
        *("ray", "symmetric-run", "--address", "10.0.0.7:21007", "--min-nodes", "2"),
        *("--num-cpus", "8", "--disable-usage-stats", "--"),
        *("lossatlas", "render", f"{tmp_path}/a spec.yaml", "--address", "10.0.0.7:21007"),
        *("--log", "json", "--device", "cuda"),
    ]


def test_every_option_of_ours_exists() -> None:
    from cluster.cli.render import render

    known = {option for parameter in render.params for option in parameter.opts}
    for name in ("slurm.sh", "rayjob.yaml"):
        text = re.sub(r"\\\n\s*", " ", (FILES / name).read_text())
        (command,) = re.findall(r"lossatlas render .*", text)
        asked = set(re.findall(r"--[a-z]+", command))
        assert "--address" in asked
        assert asked <= known


def _ray_start(content: Any) -> list[str]:
    """Every string in which a Ray is started."""
    if isinstance(content, dict):
        return [text for value in content.values() for text in _ray_start(value)]
    if isinstance(content, list):
        return [text for value in content for text in _ray_start(value)]
    return [content] if isinstance(content, str) and "ray start" in content else []


@pytest.mark.ray
def test_every_option_of_ray_start_exists(ray: Any) -> None:
    from ray.scripts.scripts import start

    known = {o for p in start.params for o in (*p.opts, *p.secondary_opts)}
    commands = [
        text for n in ("aws.yaml", "gcp.yaml", "compose.yaml") for text in _ray_start(read(n))
    ]
    assert len(commands) == 7
    for command in commands:
        asked = set(re.findall(r"--[a-z-]+", command))
        assert asked <= known
        if "--head" in asked and "--block" not in asked:
            assert "--dashboard-host=127.0.0.1" in command
            assert "RAY_AUTH_MODE=token" in command
    _, job, _ = read("rayjob.yaml")
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert {f"--{name}" for name in group["rayStartParams"]} <= known
    slurm = (FILES / "slurm.sh").read_text()
    assert {"--num-cpus", "--disable-usage-stats"} <= known
    assert "RAY_AUTH_MODE=token" in slurm


# All of them


def pinned(name: str) -> str:
    (line,) = re.findall(rf"^{name}==(.+)$", (ROOT / "constraints.txt").read_text(), re.M)
    return str(line)


def test_versions_are_those_of_the_constraints() -> None:
    texts = {path.name: path.read_text() for path in FILES.iterdir() if path.suffix != ".json"}
    assert f"Ray {pinned('ray')} and torch {pinned('torch')}" in texts["aws.yaml"]
    assert f"boto3=={pinned('boto3')}" in texts["aws.yaml"]
    for name, text in texts.items():
        told = re.findall(r"(?:[Rr]ay|rayVersion:|torch)[ =]+v?(\d+\.\d+\.\d+)", text)
        assert set(told) <= {pinned("ray"), pinned("torch")}, name
    _, job, _ = read("rayjob.yaml")
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == pinned("ray")
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert version is not None
    for text in (*texts.values(), (ROOT / "Dockerfile").read_text()):
        assert {
            found.removesuffix("-cuda") for found in re.findall(r"lossatlas:([\w.-]+)", text)
        } <= {version[1]}


SECRET = re.compile(
    r"AKIA[0-9A-Z]{16}|-----BEGIN|(?i:(password|secret_access_key|auth_token)\s*[:=]\s*['\"]?\w{8})"
)


@pytest.mark.parametrize("path", sorted(FILES.iterdir()), ids=lambda path: path.name)
def test_no_file_holds_a_secret_or_opens_the_world(path: Path) -> None:
    text = path.read_text()
    assert not SECRET.search(text)
    assert "0.0.0.0/0" not in text
    assert "LoadBalancer" not in text
    assert "NodePort" not in text


def test_the_search_for_secrets_finds_some() -> None:
    assert SECRET.search("RAY_AUTH_TOKEN: 0123456789abcdef")
    assert SECRET.search("aws_secret_access_key = 'abcdefgh123'")


FROM_IMAGE: dict[str, Callable[[str], bool]] = {
    "wants a token": lambda text: "RAY_AUTH_MODE=token" in text,
    "is not root": lambda text: "USER atlas" in text,
    "starts what it is told": lambda text: "ENTRYPOINT" not in text,
    "is what was tested": lambda text: (
        text.count("-c constraints.txt") == text.count("pip install")
    ),
}


@pytest.mark.parametrize("promise", FROM_IMAGE)
def test_the_image(promise: str) -> None:
    assert FROM_IMAGE[promise]((ROOT / "Dockerfile").read_text())
