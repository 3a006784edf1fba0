// A new cluster: the few things one must know, the rest by default; the request as JSON and curl beside it.

import { API_VERSION, change } from "../api.js";
import { h, part } from "../dom.js";

const IMAGES = ["debian-12", "debian-13", "ubuntu-24.04"];
const SECTIONS = [
  ["Cluster", [
    ["name", "Name", { required: true, pattern: "[a-z](?:[a-z0-9\\-]{0,22}[a-z0-9])", placeholder: "pay" }, "2 to 24 lower-case letters, digits and -"],
    ["kind", "Kind", { options: ["mirror", "farm"] }, "mirror: two nodes, every write on both, one serves. farm: two to four nodes that all serve and share nothing."],
    ["nodes", "Nodes of a farm", { type: "number", min: 2, max: 4, value: 2, required: true }],
    ["location", "Azure region", { required: true, value: "westeurope", list: "regions" }],
    ["vmSize", "VM size", { required: true, value: "Standard_D2s_v5" }],
    ["image", "Image", { options: IMAGES }],
    ["dataDiskGb", "Data disk, GiB", { type: "number", min: 4, max: 32767, value: 32, required: true }],
    ["sshPublicKey", "SSH public key of the administrator", { required: true, placeholder: "ssh-ed25519 AAAA…" }],
  ]],
  ["Network", [
    ["frontend", "Virtual IP", { options: ["public", "private"] }],
    ["port", "Service port, the same outside and inside", { type: "number", min: 1, max: 65535, value: 8080, required: true }],
    ["adminAddresses", "Addresses that may reach the nodes directly", { placeholder: "203.0.113.0/24, …" }, "Nobody when empty; the virtual IP is open to all."],
  ]],
  ["Application", [
    ["appName", "Name of the application", { required: true, value: "app", pattern: "[a-z][a-z0-9\\-]{0,30}" }],
    ["path", "Replicated directory", { required: true, value: "/data/app" }],
    ["mode", "Acknowledgement", { options: ["strict", "ordered"] }, "strict: every call waits for both nodes. ordered, for databases: calls go in order, fsync waits for both disks."],
    ["packages", "Packages to install", { placeholder: "postgresql, …" }],
    ["startPrim", "start_prim: starts the application, returns when it runs", { rows: 4, required: true, value: "systemctl start app\n" }],
    ["stopPrim", "stop_prim: stops it", { rows: 3, value: "systemctl stop app\n" }],
  ]],
];

export function createPage({ may }) {
  const note = part("div", {}, (error) => error && h("div", { class: "note bad", role: "alert" },
    h("p", {}, error.message), error.target && h("p", {}, "Field ", h("code", {}, error.target)),
    error.details.length > 1 && h("ul", {}, error.details.map((detail) => h("li", {}, detail.message)))));
  const request = part("div", {}, requestOf);
  const fields = {};
  const go = h("button", { class: "primary", type: "submit", disabled: !may("Admin") }, "Create the cluster");
  const form = h("form", { class: "card", oninput: draw, onsubmit: submit },
    SECTIONS.map(([title, list]) => h("fieldset", {}, h("legend", {}, title), list.map(([key, label, options, hint]) => field(key, label, options, hint)))),
    h("div", { class: "buttons" }, go, !may("Admin") && h("span", { class: "hint" }, "This needs the role Admin.")));

  function field(key, label, { options, rows, value = "", ...attributes }, hint) {
    const id = `new-${key}`;
    const described = hint ? { "aria-describedby": `${id}-hint` } : {};
    const input = options ? h("select", { id, ...described }, options.map((word) => h("option", {}, word)))
      : rows ? h("textarea", { id, rows, spellcheck: "false", ".value": value, ...described, ...attributes })
      : h("input", { id, autocomplete: "off", spellcheck: "false", ".value": value, ...described, ...attributes });
    fields[key] = input;
    return h("div", { class: "field" }, h("label", { for: id }, label), input, hint && h("p", { class: "hint", id: `${id}-hint` }, hint));
  }

  const text = (key) => fields[key].value.trim();
  const list = (key) => text(key).split(/[\s,]+/).filter(Boolean);

  function body() {
    const port = Number(text("port"));
    const farm = text("kind") === "farm";
    return {
      location: text("location"),
      ...(farm ? { kind: "farm" } : {}),
      compute: { ...(farm ? { nodes: Number(text("nodes")) } : {}), os: "linux", image: text("image"), vmSize: text("vmSize"), dataDiskGb: Number(text("dataDiskGb")), sshPublicKey: text("sshPublicKey") },
      network: { frontend: text("frontend"), adminAddresses: list("adminAddresses"), rules: [{ name: text("appName"), protocol: "tcp", frontendPort: port, backendPort: port }] },
      application: {
        name: text("appName"),
        packages: list("packages"),
        startPrim: fields.startPrim.value,
        stopPrim: fields.stopPrim.value || "true\n",
        ...(farm ? {} : { replicatedPaths: [{ path: text("path"), mode: text("mode") }] }),
        servicePorts: [port],
        checkers: [{ name: "listens", kind: "tcp", port, threshold: 3 }],
      },
    };
  }

  function draw() {
    const farm = text("kind") === "farm";
    fields.nodes.disabled = !farm;
    fields.path.disabled = fields.mode.disabled = farm;
    request.show(text("name") || "NAME", body());
  }

  async function submit(event) {
    event.preventDefault();
    go.disabled = true;
    try {
      await change("PUT", `clusters/${encodeURIComponent(text("name"))}`, body(), { "If-None-Match": "*" });
      location.hash = `#/clusters/${text("name")}`;
    } catch (error) {
      note.show({ message: error.message, target: error.target, details: error.details });
      go.disabled = false;
    }
  }

  draw();
  return ["New cluster", { element: h("div", { class: "columns" }, h("div", {}, note.element, form), request.element) }];
}

function requestOf(name, document) {
  const json = JSON.stringify(document, null, 2);
  const curl = [
    `curl -X PUT '${location.origin}/api/clusters/${name}?api-version=${API_VERSION}' \\`,
    "  -H \"Authorization: Bearer $MIRRORPLANE_TOKEN\" -H 'If-None-Match: *' \\",
    "  -H 'Content-Type: application/json' --data @cluster.json",
  ].join("\n");
  return h("section", { class: "card", "aria-label": "The same as a request" }, h("h2", {}, "The same as a request"),
    h("pre", { class: "wrap" }, curl), h("h3", {}, "cluster.json"), h("pre", { tabindex: "0" }, json));
}
