// How times and numbers are shown: this browser's time zone, the same form everywhere.

const two = (number) => String(number).padStart(2, "0");

/** Milliseconds since 1970 as a local time. */
export function time(milliseconds) {
  if (milliseconds === null || milliseconds === undefined) return null;
  const at = new Date(milliseconds);
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${day} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

export const seconds = (unix) => (unix === null || unix === undefined ? null : time(unix * 1000));

/** A span of time, in the unit that suits it. */
export function span(milliseconds) {
  if (milliseconds === null || milliseconds === undefined) return null;
  const whole = Math.abs(milliseconds);
  if (whole < 1_000) return `${Math.round(milliseconds)} ms`;
  if (whole < 120_000) return `${(milliseconds / 1000).toFixed(1)} s`;
  if (whole < 7_200_000) return `${Math.round(milliseconds / 60_000)} min`;
  if (whole < 172_800_000) return `${(milliseconds / 3_600_000).toFixed(1)} h`;
  return `${Math.round(milliseconds / 86_400_000)} d`;
}

/** Labels for points of time (Unix seconds) along an axis: the day where it begins or changes, else the time of day. */
export function along(points) {
  let day = null;
  return points.map((point) => {
    const [date, clock] = seconds(point).split(" ");
    const shown = date === day ? "" : date.slice(5);
    day = date;
    const midnight = clock === "00:00:00";
    const label = midnight && points.length > 1 && points[1] - points[0] >= 86_400 ? "" : clock.slice(0, clock.endsWith(":00") ? 5 : 8);
    return [label, shown].filter(Boolean).join("\n");
  });
}

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compacted = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const money = new Intl.NumberFormat("en", { minimumFractionDigits: 4, maximumFractionDigits: 4 });
const round = new Intl.NumberFormat("en", { notation: "compact", minimumFractionDigits: 2, maximumFractionDigits: 3 });

export const count = (number) => (number === null || number === undefined ? null : grouped.format(number));
export const compact = (number) => (number === null || number === undefined ? null : compacted.format(number));
export const usd = (number) => (number === null || number === undefined ? null : `$${money.format(number)}`);
export const roundUsd = (number) => `$${round.format(number)}`;

/** Any JSON value as short text. */
export function value(told) {
  if (told === null || told === undefined) return "null";
  return typeof told === "string" ? told : JSON.stringify(told);
}
