// Numbers and times in words a person reads.

export function bytes(count) {
  if (!Number.isFinite(count)) return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = count;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) { value /= 1000; unit += 1; }
  return `${value >= 100 || unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

export const whole = (count) => (Number.isFinite(count) ? count.toLocaleString("en") : "–");

export function count(number, word) {
  return `${whole(number)} ${word}${number === 1 ? "" : "s"}`;
}

export function large(number) {
  if (!number) return "";
  if (number >= 1e9) return `${(number / 1e9).toFixed(1)} B`;
  if (number >= 1e6) return `${(number / 1e6).toFixed(1)} M`;
  return whole(number);
}

export function clock(seconds) {
  const at = new Date(seconds * 1000);
  const today = new Date().toDateString() === at.toDateString();
  const time = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
  return today ? time : `${at.toLocaleDateString([], { month: "short", day: "numeric" })}, ${time}`;
}

export function duration(seconds) {
  if (!(seconds >= 0)) return "–";
  if (seconds < 60) return `${Math.floor(seconds)}\u00a0s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}\u00a0min`;
  const two = (large, first, small, second) => `${Math.floor(seconds / large)}\u00a0${first}${seconds % large >= small ? ` ${Math.floor((seconds % large) / small)}\u00a0${second}` : ""}`;
  return seconds < 86400 ? two(3600, "h", 60, "min") : two(86400, "d", 3600, "h");
}

/** A speed: with a decimal while it is small. */
export const rate = (number) => (number >= 100 ? whole(Math.round(number)) : number.toFixed(1));

/** Decimal GB, as memory is counted everywhere here. */
export function gb(number) {
  if (!Number.isFinite(number)) return "–";
  if (number >= 1000) return `${(number / 1000).toFixed(1)}\u00a0TB`;
  return `${number >= 100 ? Math.round(number) : number.toFixed(1)}\u00a0GB`;
}

export const percent = (share) => (Number.isFinite(share) ? `${Math.round(share * 100)}\u00a0%` : "–");

export function ms(number) {
  if (!Number.isFinite(number)) return "–";
  if (number >= 10000) return `${(number / 1000).toFixed(1)}\u00a0s`;
  return `${number >= 10 ? Math.round(number) : number.toFixed(1)}\u00a0ms`;
}

/** "3 min ago", or "now". */
export function ago(seconds) {
  const past = Date.now() / 1000 - seconds;
  return past < 2 ? "now" : `${duration(past)} ago`;
}
