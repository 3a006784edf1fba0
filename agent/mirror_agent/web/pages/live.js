// Asking again and again, politely: never two requests at once, not while nobody looks, slower when it fails.

export function live(read, show, failed, periodMs = 2000) {
  let timer = 0;
  let abort = null;
  let stopped = false;
  let delayMs = periodMs;

  async function turn() {
    clearTimeout(timer);
    abort?.abort();
    abort = new AbortController();
    try {
      const data = await read(abort.signal);
      if (stopped) return;
      delayMs = periodMs;
      failed(null);
      show(data);
    } catch (error) {
      if (stopped || error.name === "AbortError") return;
      delayMs = Math.min(delayMs * 2, 30000);
      failed(error);
    }
    if (!document.hidden) timer = setTimeout(turn, delayMs);
  }

  const seen = () => { if (!document.hidden) turn(); };
  document.addEventListener("visibilitychange", seen);
  return {
    enter: turn,
    now: turn,
    leave() {
      stopped = true;
      clearTimeout(timer);
      abort?.abort();
      document.removeEventListener("visibilitychange", seen);
    },
  };
}
