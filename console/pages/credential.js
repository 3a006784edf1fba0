// Behind a one-time link: the download, once, with what to do with it. Needs no sign-in; the link is the key.

import { redeem } from "../api.js";
import { h, say } from "../dom.js";

const INSTALL = [
  "Keep the password: it is shown here and nowhere else.",
  "Open the .p12 file (Windows, macOS) or import it in the browser's certificate settings (Firefox, Linux), with that password.",
  "Import the CA certificate as an authority for web sites, so that the browser knows the nodes.",
];

export function credentialPage(link) {
  const box = h("div", { class: "card narrow" });
  const go = h("button", { class: "primary", type: "button", onclick: download }, "Download my certificate");
  box.append(
    h("h1", { tabindex: "-1" }, "Access to a cluster's nodes"),
    h("p", {}, "This link works once. It makes a key and a certificate for you, and forgets the key."),
    go,
  );

  async function download() {
    go.disabled = true;
    try {
      const files = await redeem(link);
      history.replaceState(null, "", "#/credential/used"); // the secret need not stay in the address bar
      box.replaceChildren(...shown(files));
      say("Your certificate is ready");
    } catch (error) {
      box.replaceChildren(
        h("h1", { tabindex: "-1" }, "No download"),
        h("p", { class: "note bad", role: "alert" }, error.message, " ", h("code", {}, error.code)),
        h("p", {}, "Ask the administrator for another link."),
      );
    }
  }

  return { element: box, hideTitle: true };
}

function shown(files) {
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
      files.consoleUrls.map((url, index) => h("li", {}, files.testUrl && index === 0 ? "Whichever node serves: " : "One node: ", h("a", { href: url, rel: "noreferrer" }, url))),
      files.testUrl && h("li", {}, "Test page: ", h("a", { href: files.testUrl, rel: "noreferrer" }, files.testUrl))),
  ];
}

function file(content, name, type, word) {
  return h("a", { class: "button", download: name, href: URL.createObjectURL(new Blob([content], { type })) }, word);
}
