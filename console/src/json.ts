// Reads JSON without losing digits: JavaScript's numbers are exact up to 16 digits only, ids and versions have up to 19.

const STRING_OR_NUMBER = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/** Parses JSON. Whole numbers beyond the exact range become text with the same digits. */
export function parse(text: string): any {
  const exact = text.replace(STRING_OR_NUMBER, (token) => {
    const isLong = token.length > 15 && token[0] !== '"' && /^-?\d+$/.test(token);
    return isLong && !Number.isSafeInteger(Number(token)) ? `"${token}"` : token;
  });
  return JSON.parse(exact);
}
