/**
 * The records of a CSV (RFC 4180), at most `most` and one; lines may end in LF alone, and empty ones are no records. Undefined when
 * a quote is never closed, or stands where none may.
 */
export function readCsv(text: string, most: number): string[][] | undefined {
  const records: string[][] = [];
  let fields: string[] = [];
  const field = /("[^"]*(?:""[^"]*)*"|[^",\r\n]*)(,|\r?\n|$)/y;
  // Spreadsheets write a byte order mark.
  field.lastIndex = text.startsWith('\uFEFF') ? 1 : 0;
  while (records.length <= most) {
    const match = field.exec(text);
    if (match === null) return undefined;
    const [, value = '', end] = match;
    fields.push(value.startsWith('"') ? value.slice(1, -1).replaceAll('""', '"') : value);
    if (end !== ',') {
      if (fields.length > 1 || fields[0] !== '') records.push(fields);
      fields = [];
    }
    if (end === '') return records;
  }
  return records;
}
