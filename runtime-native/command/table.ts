// Columns as runc prints them.

const WIDTH_MIN = 12;
const PADDING = 3;

export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(WIDTH_MIN, ...rows.map((row) => (row[column] ?? '').length + PADDING)),
  );
  return rows
    .map((row) => {
      const cells = row.map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] ?? 0)));
      return `${cells.join('')}\n`;
    })
    .join('');
}
