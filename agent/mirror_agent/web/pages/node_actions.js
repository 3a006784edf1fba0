// What can be asked of a node: who may, what it does, and when it must be meant.

export const ACTIONS = [
  { word: "swap", title: "Swap", needs: "Control", drill: "swap", effects: ["The application stops and starts on the other node. Clients wait meanwhile; no acknowledged write is lost."] },
  { word: "restart", title: "Restart application", needs: "Control", effects: ["The application stops and starts where it runs."] },
  { word: "stopstart", title: "Stop and start", needs: "Control", effects: ["The module stops and starts again."] },
  { word: "start", title: "Start", needs: "Control", effects: ["The module starts: it serves or becomes a replica, as the witness record says."] },
  { word: "stop", title: "Stop", needs: "Control", effects: ["The module stops and stays stopped until somebody starts it."], danger: true },
  { word: "failover-off", title: "Failover off", needs: "Control", effects: ["The nodes do not take over from one another until it is switched on again. A dead primary then means an outage."], danger: true },
  { word: "failover-on", title: "Failover on", needs: "Control", effects: ["The nodes take over from one another again."] },
  { word: "checkers-off", title: "Checkers off", needs: "Control", effects: ["A failing application is not noticed by this node until they are switched on again."], danger: true },
  { word: "checkers-on", title: "Checkers on", needs: "Control", effects: ["The checkers watch the application again."] },
  {
    word: "force", title: "Force primary", needs: "Admin", danger: true,
    effects: [
      "The node becomes primary with the data it has, whatever the witness record says. Only for the case that the other node and its disk are gone for good.",
    ],
  },
];

// On the serving node only: it is the one that knows both copies.
export const COPY_ACTIONS = [
  { word: "mirror-verify", title: "Verify", needs: "Control", copies: true, effects: ["Both copies are read and compared while the application runs. Nothing is changed."] },
  { word: "mirror-repair", title: "Verify and repair", needs: "Control", copies: true, effects: [] },
  { word: "mirror-verify-stop", title: "Stop the verify", needs: "Control", effects: ["The verify ends without a verdict."] },
  { word: "mirror-resync", title: "Resync everything", needs: "Control", copies: true, danger: true, effects: [] },
];

const RANKS = { Monitor: 1, Control: 2, Admin: 3 };

/** Why an action is not possible now, or null. */
export function refusal(action, me, status, permissions) {
  if (!(RANKS[me.role] >= RANKS[action.needs])) return `This needs the role ${action.needs}.`;
  const permission = permissions.find((entry) => entry.act === action.drill);
  if (permission && !permission.allowed) return permission.sentence;
  const serving = status.role === "PRIM" || status.role === "ALONE";
  const running = status.mirror.verify?.running;
  if (action.copies && !serving) return "This is asked of the serving node.";
  if (action.copies && status.mirror.link !== "live") return "There is no complete replica now.";
  if (action.copies && running) return "A verify is under way.";
  if (action.word === "mirror-verify-stop" && !running) return "No verify is under way.";
  if (action.word === "start" && status.role !== "STOP") return "The module runs.";
  if (["stop", "stopstart"].includes(action.word) && status.role === "STOP") return "The module is stopped.";
  if (action.word === "restart" && !serving) return "The application does not run here.";
  if (action.word === "force" && serving) return "The node serves.";
  if (action.word === "failover-off" && !status.failover.on) return "Failover is off.";
  if (action.word === "failover-on" && status.failover.on) return "Failover is on.";
  if (action.word === "checkers-off" && !status.checkersSwitch.on) return "The checkers are off.";
  if (action.word === "checkers-on" && status.checkersSwitch.on) return "The checkers are on.";
  return null;
}
