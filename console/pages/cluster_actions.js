// Which actions there are, which are possible now, and what each will do, from the state the page shows.

const DISABLED_ROLE = (role) => `This needs the role ${role}.`;

const ROLE_OF = (reports) => (node) => (reports[node]?.fresh ? reports[node].heartbeat.role : null);

export const actionsOf = (view, may) => (view.cluster.kind === "farm" ? farmActions(view, may) : mirrorActions(view, may));

/** What every kind of cluster asks first: the role, whether something is under way, whether it is there yet. */
function before(view, may) {
  const { cluster, operation } = view;
  const running = operation && ["NotStarted", "Running"].includes(operation.status);
  const busy = running ? `${operation.action ?? operation.kind} is under way.` : null;
  const notReady = cluster.provisioningState === "Succeeded" ? null : `The cluster is ${cluster.provisioningState.toLowerCase()}.`;
  return { common: (role) => (may(role) ? null : DISABLED_ROLE(role)), busy, notReady };
}

function farmActions(view, may) {
  const { cluster, safety, reports } = view;
  const { common, busy, notReady } = before(view, may);
  const first = common("Control") ?? busy ?? notReady;
  const roles = cluster.nodes.map((entry) => ROLE_OF(reports)(entry.name));
  return [
    {
      word: "restart",
      title: "Restart application",
      refusal: first ?? (safety.up.length ? null : "Nobody serves."),
      effects: ["The application stops and starts on one node after the other; the others serve meanwhile.", "It ends at the first node that does not come back."],
    },
    {
      word: "start",
      title: "Start",
      refusal: first ?? (roles.includes("STOP") ? null : "No node is stopped."),
      effects: ["The application starts on every stopped node, and clients are sent there when it answers."],
    },
    {
      word: "stop",
      title: "Stop",
      danger: true,
      refusal: first ?? (roles.every((role) => role === "STOP") ? "Every node is stopped." : null),
      effects: [`The application stops on all ${cluster.nodes.length} nodes. Nobody serves until somebody starts the cluster.`],
    },
    {
      word: "delete",
      title: "Delete",
      danger: true,
      refusal: common("Admin") ?? (cluster.provisioningState === "Deleting" ? "It is being deleted." : null),
      effects: [
        `All ${cluster.nodes.length} machines with their disks, the virtual IP ${cluster.virtualIp.address ?? ""} and everything else tagged as this cluster's are deleted.`,
        "There is no way back. Resources that do not carry the cluster's tags are left alone.",
      ],
    },
  ];
}

function mirrorActions(view, may) {
  const { cluster, safety, reports } = view;
  const { common, busy, notReady } = before(view, may);
  const serving = safety.serving;
  const other = serving === "a" ? "b" : "a";
  const roleOf = ROLE_OF(reports);
  const phaseOf = (node) => reports[node]?.heartbeat.phase;
  const stopped = ["a", "b"].every((node) => roleOf(node) === "STOP");

  const swapRefusal =
    safety.state !== "in-sync" ? "Only a pair in sync can swap without losing anything."
    : roleOf(other) !== "SECOND" || phaseOf(other) !== "ready" ? `Node ${other} is not a ready SECOND.`
    : null;

  return [
    {
      word: "swap",
      title: "Swap",
      refusal: common("Control") ?? busy ?? notReady ?? swapRefusal,
      effects: [
        `Node ${other} becomes PRIM, node ${serving} becomes SECOND.`,
        "Clients wait while the application stops here and starts there; connections to the old node are reset.",
        "No acknowledged write is lost.",
      ],
    },
    {
      word: "restart",
      title: "Restart application",
      refusal: common("Control") ?? busy ?? notReady ?? (serving ? null : "Nobody serves."),
      effects: [`The application stops and starts on node ${serving}.`, "It does not move to the other node. The restart budget is not touched."],
    },
    {
      word: "start",
      title: "Start",
      refusal: common("Control") ?? busy ?? notReady ?? (["a", "b"].some((node) => roleOf(node) === "STOP") ? null : "No node is stopped."),
      effects: ["Stopped nodes join again: one that holds every acknowledged write serves, the other one is resynchronised."],
    },
    {
      word: "stop",
      title: "Stop",
      danger: true,
      refusal: common("Control") ?? busy ?? notReady ?? (stopped ? "Both nodes are stopped." : null),
      effects: [
        "The application stops on both nodes. Nobody serves until somebody starts the cluster.",
        safety.state === "in-sync" ? "The replica stops first, so that both hold the same data."
        : serving ? `Node ${other} is not in sync: after this only node ${serving} can serve again, and its data disk is the only complete copy.`
        : "It is not known that both nodes hold the same data.",
      ],
    },
    {
      word: "delete",
      title: "Delete",
      danger: true,
      refusal: common("Admin") ?? (cluster.provisioningState === "Deleting" ? "It is being deleted." : null),
      effects: [
        safety.state === "exposed" && serving ? `Only node ${serving} has the newest writes.` : null,
        `Both machines, their disks with all data, the virtual IP ${cluster.virtualIp.address ?? ""} and everything else tagged as this cluster's are deleted.`,
        "There is no way back. Resources that do not carry the cluster's tags are left alone.",
      ].filter(Boolean),
    },
  ];
}
