"""Writes what the release binaries are made of: FOLDER/THIRD-PARTY-LICENSES, every licence text that has to travel with them, and
FOLDER/headwater.cdx.json, an SBOM in CycloneDX 1.6.

Usage: python3 cross/third_party.py FOLDER TARGET...

Both tell of all targets together, so that every package carries the same two files. What is in them comes from Cargo.lock and from the
sources that Cargo unpacked; Rust's own library, the C code inside crates, and what zig links into static binaries are named as well.
Nothing is left out silently: a crate without a licence text that is not known here ends this with an error.
"""

import html
import json
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ZIG = ROOT / "target/tools/cross"
TEXTS = re.compile(r"(LICEN[CS]E|COPYING|COPYRIGHT|NOTICE|UNLICENSE)([-_.].*)?", re.IGNORECASE)
OURS = "headwater"
WIDTH = 100


def run(*command):
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def cargo(*arguments):
    return run(*os.environ.get("CARGO", "cargo").split(), *arguments)


def rustc(*arguments):
    return run(os.environ.get("RUSTC", "rustc"), *arguments).strip()


def shipped(targets):
    """(name, version) of each crate that is in a binary of one of `targets`; what only builds or tests is not."""
    tree = cargo("tree", "--locked", "--edges", "normal,no-proc-macro", "--no-default-features", "--prefix", "none", "--format", "{p}",
                 *(f"--target={target}" for target in targets))
    return {tuple(line.split()[:2]) for line in tree.splitlines() if line.strip()}


def crates(targets):
    """What Cargo knows of each of them, in order, and by id what each is made of."""
    metadata = json.loads(cargo("metadata", "--locked", "--format-version=1", "--no-default-features"))
    wanted = shipped(targets)
    packages = {p["id"]: p for p in metadata["packages"] if (p["name"], "v" + p["version"]) in wanted}
    edges = {
        node["id"]: sorted(d["pkg"] for d in node["deps"] if d["pkg"] in packages and any(k["kind"] is None for k in d["dep_kinds"]))
        for node in metadata["resolve"]["nodes"] if node["id"] in packages
    }
    return sorted(packages.values(), key=lambda p: (p["name"], p["version"])), edges


def expression(package):
    """An SPDX expression; older crates write / for OR."""
    return re.sub(r"\s*/\s*", " OR ", package["license"])


def texts_of(package):
    """The licence texts inside a crate, those of code from elsewhere too."""
    folder = Path(package["manifest_path"]).parent
    found = sorted(path for path in folder.rglob("*") if path.is_file() and TEXTS.fullmatch(path.name))
    if found:
        return [path.read_text(encoding="utf-8", errors="replace") for path in found]
    # Some authors name the licence and leave its text out.
    authors = ", ".join(re.sub(r"\s*<.*?>", "", author) for author in package["authors"]) or f"the authors of {package['name']}"
    if "Apache-2.0" in expression(package):
        return [(ROOT / "LICENSE-APACHE").read_text()]
    if expression(package) == "MIT":
        return [re.sub(r"Copyright \(c\) .*", f"Copyright (c) {authors}", (ROOT / "LICENSE-MIT").read_text())]
    sys.exit(f"{package['name']} {package['version']} ({expression(package)}) has no licence text; find it, and add it here")


def texts_of_rust():
    """(part, text) of Rust's own library, from the page that comes with the compiler."""
    page = (Path(rustc("--print", "sysroot")) / "share/doc/rust/COPYRIGHT-library.html").read_text(encoding="utf-8")
    own, *others = page.split("<h3>")
    words = html.unescape(re.sub(r"<[^>]+>", "", own[own.index("<h1>"):]))
    yield "Rust's standard library", re.sub(r"\n\s*\n\s*", "\n\n", words)
    for other in others:
        name = other.split("</h3>")[0].split()[-1]
        for text in re.findall(r"<pre>(.*?)</pre>", other, re.DOTALL):
            yield f"{name} (in Rust's standard library)", html.unescape(text)


def texts_of_zig():
    """(part, text) of what zig links into the binaries."""
    zig = next(ZIG.glob("lib/python3*/site-packages/ziglang"))
    yield "zig's start-up and compiler support code", (zig / "LICENSE").read_text()
    yield "musl, in the static binaries", (zig / "lib/libc/musl/COPYRIGHT").read_text()


def licences(packages):
    """The whole text: what there is, then each licence text once, with the parts that it is of."""
    rows = [(f"{p['name']} {p['version']}", expression(p), f"https://crates.io/crates/{p['name']}/{p['version']}")
            for p in packages if p["name"] != OURS]
    wide = [max(len(row[column]) for row in rows) for column in (0, 1)]
    texts = [(f"{p['name']} {p['version']}", text) for p in packages if p["name"] != OURS for text in texts_of(p)]

    parts = {}
    for part, text in [*texts, *texts_of_rust(), *texts_of_zig()]:
        same = " ".join(text.split())
        kept, of = parts.setdefault(same, (text, []))
        if part not in of:
            of.append(part)

    yield "headwater is made of its own code (MIT OR Apache-2.0) and of what is listed here: first the crates with their licences and where"
    yield "their source code is to be had, then every licence text, with the parts that it came with."
    yield ""
    yield from (f"{name:{wide[0]}}  {licence:{wide[1]}}  {source}" for name, licence, source in rows)
    for text, of in parts.values():
        yield "\n" + "=" * WIDTH
        yield from of
        yield "-" * WIDTH + "\n"
        yield "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


def in_c(package):
    """(name, version, licence, CPE) of the C library inside a crate, if that is what the crate carries."""
    folder = Path(package["manifest_path"]).parent
    if package["name"] == "libsqlite3-sys":
        version = re.search(r'#define SQLITE_VERSION\s+"([0-9.]+)"', (folder / "sqlite3/sqlite3.h").read_text()).group(1)
        return "sqlite", version, "blessing", f"cpe:2.3:a:sqlite:sqlite:{version}:*:*:*:*:*:*:*"
    if package["name"] == "zstd-sys":
        version = package["version"].rsplit("zstd.", 1)[1]
        return "zstd", version, "BSD-3-Clause", f"cpe:2.3:a:facebook:zstandard:{version}:*:*:*:*:*:*:*"
    return None


def component(kind, name, version, licence, **more):
    purl = more.pop("purl", f"pkg:generic/{name}@{version}")
    return {"type": kind, "bom-ref": purl, "name": name, "version": version, "licenses": [{"expression": licence}], "purl": purl, **more}


def sbom(packages, edges):
    # Cargo writes it, and always like this; Python reads TOML only from 3.11 on.
    lock = (ROOT / "Cargo.lock").read_text()
    locked = re.findall(r'^name = "(.+)"\nversion = "(.+)"\nsource = ".+"\nchecksum = "(.+)"$', lock, re.MULTILINE)
    checksums = {(name, version): checksum for name, version, checksum in locked}
    compiler = rustc("--version").split()[1]
    purl = {p["id"]: f"pkg:cargo/{p['name']}@{p['version'].replace('+', '%2B')}" for p in packages}
    components, dependencies, ours = [], {}, None
    for package in packages:
        this = purl[package["id"]]
        dependencies[this] = sorted({purl[other] for other in edges[package["id"]]})
        if package["name"] == OURS:
            ours = component("application", OURS, package["version"], expression(package), purl=this)
            continue
        more = {"purl": this, "hashes": [{"alg": "SHA-256", "content": checksums[package["name"], package["version"]]}]}
        if package["repository"]:
            more["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
        components.append(component("library", package["name"], package["version"], expression(package), **more))
        if library := in_c(package):
            components.append(component("library", *library[:3], cpe=library[3]))
            dependencies[this].append(components[-1]["bom-ref"])
    rust = component("library", "rust-std", compiler, "MIT OR Apache-2.0")
    components.append(rust)
    dependencies[ours["bom-ref"]].append(rust["bom-ref"])
    body = {
        "metadata": {
            "timestamp": run("git", "log", "-1", "--format=%cd", "--date=format-local:%Y-%m-%dT%H:%M:%SZ").strip(),
            "component": ours,
        },
        "components": components,
        "dependencies": [{"ref": ref, "dependsOn": others} for ref, others in sorted(dependencies.items())],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(body))
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": f"urn:uuid:{serial}", "version": 1, **body}


def main():
    folder, *targets = sys.argv[1:]
    os.environ["TZ"] = "UTC"
    packages, edges = crates(targets)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "THIRD-PARTY-LICENSES").write_text("\n".join(licences(packages)) + "\n", encoding="utf-8")
    (folder / "headwater.cdx.json").write_text(json.dumps(sbom(packages, edges), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{folder}/THIRD-PARTY-LICENSES, {folder}/headwater.cdx.json: {len(packages) - 1} crates")


main()
