// The text form of Prometheus metrics: https://prometheus.io/docs/instrumenting/exposition_formats/

const SAMPLE = /^([a-zA-Z_:][\w:]*)\s+(\S+)/;

/** Values by name, of the samples without labels. */
export function parse(text) {
  const values = new Map();
  for (const line of text.split("\n")) {
    const match = SAMPLE.exec(line);
    if (match) values.set(match[1], Number(match[2]));
  }
  return values;
}
