// What can be asked of this node: who may, what it does, and when it must be meant.

export const ACTIONS = [
  { word: "swap", title: "Swap", needs: "Control", drill: "swap", effects: ["The application stops here and starts on the other node. Clients wait meanwhile; no acknowledged write is lost."] },
  { word: "restart", title: "Restart application", needs: "Control", effects: ["The application stops and starts where it runs."] },
  { word: "stopstart", title: "Stop and start", needs: "Control", effects: ["The module on this node stops and starts again. If the application runs here, the other node takes over when it is in sync."] },
  { word: "start", title: "Start", needs: "Control", effects: ["The module on this node starts: it serves or becomes a replica, as the witness record says."] },
  { word: "stop", title: "Stop", needs: "Control", effects: ["The module on this node stops and stays stopped. If the application runs here, the other node takes over when it is in sync; else nobody serves."], danger: true },
  { word: "failover-off", title: "Failover off", needs: "Control", effects: ["The nodes do not take over from one another until it is switched on again. A dead primary then means an outage."], danger: true },
  { word: "failover-on", title: "Failover on", needs: "Control", effects: ["The nodes take over from one another again."] },
  { word: "checkers-off", title: "Checkers off", needs: "Control", effects: ["A failing application is not noticed by this node until they are switched on again."], danger: true },
  { word: "checkers-on", title: "Checkers on", needs: "Control", effects: ["The checkers watch the application again."] },
  {
    word: "force", title: "Force primary", needs: "Admin", danger: true,
    effects: [
      "This node becomes primary with the data it has, although the witness record does not list it.",
      "Writes that only the other node has are lost to the application. They are kept in quarantine on that node when it comes back.",
      "Only for the case that the other node and its disk are gone for good.",
    ],
  },
];

const RANKS = { Monitor: 1, Control: 2, Admin: 3 };

/** Why an action is not possible now, or null. */
export function refusal(action, me, status, permissions) {
  if (!(RANKS[me.role] >= RANKS[action.needs])) return `This needs the role ${action.needs}.`;
  const permission = permissions.find((entry) => entry.act === action.drill);
  if (permission && !permission.allowed) return permission.sentence;
  const serving = status.role === "PRIM" || status.role === "ALONE";
  if (action.word === "start" && status.role !== "STOP") return "The module runs.";
  if (["stop", "stopstart"].includes(action.word) && status.role === "STOP") return "The module is stopped.";
  if (action.word === "restart" && !serving) return "The application does not run here.";
  if (action.word === "force" && serving) return "This node serves.";
  if (action.word === "failover-off" && !status.failover.on) return "Failover is off.";
  if (action.word === "failover-on" && status.failover.on) return "Failover is on.";
  if (action.word === "checkers-off" && !status.checkersSwitch.on) return "The checkers are off.";
  if (action.word === "checkers-on" && status.checkersSwitch.on) return "The checkers are on.";
  return null;
}
