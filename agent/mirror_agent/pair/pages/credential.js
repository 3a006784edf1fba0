// Behind a one-time link of a pair: the download, once, with what to do with it. The link is the key, and nothing is
// asked for before its reader presses the button, so that a preview of the link uses nothing up.

import { h } from "./dom.js";

const INSTALL = [
  "Keep the password: it is shown here and nowhere else.",
  "Open the .p12 file (Windows, macOS) or import it in the browser's certificate settings (Firefox, Linux), with that password.",
  "Import the CA certificate as an authority for web sites, so that the browser knows the nodes.",
];

const link = /^#\/credential\/(.+)$/.exec(location.hash)?.[1] ?? "";
const main = document.getElementById("main");
const go = h("button", { class: "primary", type: "button", id: "download", onclick: download }, "Download my certificate");
main.append(h("div", { class: "card narrow" },
  h("h1", { tabindex: "-1" }, "Access to this pair's nodes"),
  h("p", {}, "The link works once. It makes a key and a certificate for you, and the node forgets the key."),
  go));

async function download() {
  go.disabled = true;
  try {
    const files = await redeem();
    history.replaceState(null, "", "#/credential/used"); // the secret need not stay in the address bar
    show(...ready(files));
  } catch (error) {
    show(h("h1", { tabindex: "-1" }, "No download"),
      h("p", { class: "note bad", role: "alert" }, error.message),
      h("p", {}, "Another link: ", h("code", {}, "mirrorctl credentials link"), " on a node."));
  }
}

async function redeem() {
  const headers = { Authorization: `Bearer ${link}` };
  const answer = await fetch("/pair/v1/credential-downloads", { method: "POST", headers, redirect: "error", credentials: "omit" });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error.message);
  return body;
}

function show(...parts) {
  main.replaceChildren(h("div", { class: "card narrow" }, parts));
}

function ready(files) {
  const p12 = Uint8Array.from(atob(files.pkcs12), (letter) => letter.charCodeAt(0));
  const name = `${files.cluster}-${files.role.toLowerCase()}`;
  return [
    h("h1", { tabindex: "-1" }, `Cluster ${files.cluster}: ${files.role}`),
    h("p", {}, `For ${files.name}, until ${new Date(files.expiresAt).toLocaleDateString()}.`),
    h("p", {}, "Password of the file"),
    h("pre", { class: "secret", tabindex: "0", id: "password" }, files.password),
    h("div", { class: "buttons" },
      file(p12, `${name}.p12`, "application/x-pkcs12", "Certificate and key (.p12)"),
      file(files.caPem, `${files.cluster}-ca.pem`, "application/x-pem-file", "CA certificate (.pem)")),
    h("ol", {}, INSTALL.map((sentence) => h("li", {}, sentence))),
    h("h2", {}, "Then"),
    h("ul", {},
      files.consoleUrls.map((url) => h("li", {}, h("a", { href: url, rel: "noreferrer" }, url))),
      files.testUrl && h("li", {}, "Test page: ", h("a", { href: files.testUrl, rel: "noreferrer" }, files.testUrl))),
  ];
}

function file(content, name, type, word) {
  return h("a", { class: "button", download: name, href: URL.createObjectURL(new Blob([content], { type })) }, word);
}
