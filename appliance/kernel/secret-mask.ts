/**
 * Overwrites what looks like a secret in text that comes piece by piece, from a machine's console or a log: boot tokens and
 * bearers, agents' credentials, API keys, passwords behind their names, private keys. Each character becomes one `*` or
 * stays, so lengths are kept and nothing is held back.
 *
 * Consoles wrap lines at any character, and firmware moves the cursor in the middle of a word: line ends and escape
 * sequences (ECMA-48 §5.4) pass through and neither hide the name of a secret nor end its value too early.
 */
export class SecretMask {
  /** The last characters that were seen, without line ends and escape sequences: where names of secrets are found. */
  #recent = '';
  #escape: 'none' | 'begun' | 'control' = 'none';
  #state: 'outside' | 'value' | 'key' = 'outside';
  /** Characters of the value since its last dot. */
  #masked = 0;

  /** `midway`: the text before the first piece is not known, so the first word may be the rest of a secret. */
  constructor({ midway = false } = {}) {
    if (midway) this.#state = 'value';
  }

  mask(piece: string): string {
    let masked = '';
    for (let at = 0; at < piece.length;) {
      const plain = this.#plainAt(piece, at);
      masked += plain === '' ? this.#next(piece.charAt(at)) : plain;
      at += plain.length || 1;
    }
    return masked;
  }

  /** Something was lost here: what comes next may be the rest of a secret. */
  gap(): void {
    this.#recent = '';
    this.#masked = 0;
    this.#state = 'value';
  }

  /** Characters that mean nothing but themselves, taken together: most of any text. */
  #plainAt(piece: string, at: number): string {
    if (this.#state !== 'outside' || this.#escape !== 'none') return '';
    PLAIN.lastIndex = at;
    const [plain = ''] = PLAIN.exec(piece) ?? [];
    if (plain !== '') this.#recent = (this.#recent + plain).slice(-WINDOW);
    return plain;
  }

  #next(character: string): string {
    if (this.#passes(character)) return character;
    this.#recent = (this.#recent + character).slice(-WINDOW);
    if (this.#state === 'key' && character !== '-') return BASE64.test(character) ? '*' : character;
    if (this.#state === 'value' && VALUE.test(character)) {
      this.#masked = character === '.' ? 0 : this.#masked + 1;
      return '*';
    }
    this.#state = this.#begins(character);
    this.#masked = 0;
    return character;
  }

  /** Line ends and escape sequences: no part of a word. */
  #passes(character: string): boolean {
    if (this.#escape === 'begun') {
      this.#escape = character === '[' ? 'control' : /[ -/]/.test(character) ? 'begun' : 'none';
      return true;
    }
    if (this.#escape === 'control') {
      if (/[@-~]/.test(character)) this.#escape = 'none';
      return true;
    }
    if (character === '\x1b') {
      this.#escape = 'begun';
      return true;
    }
    if (character !== '\r' && character !== '\n') return false;
    // A value that is whole ends with its line; a shorter one may go on in the next.
    if (this.#state === 'value' && this.#masked >= TOKEN) this.#state = 'outside';
    return true;
  }

  #begins(character: string): 'outside' | 'value' | 'key' {
    if (character === '-') return PRIVATE_KEY.test(this.#recent) ? 'key' : 'outside';
    return isName(character, this.#recent) ? 'value' : 'outside';
  }
}

/** Whether a value of a secret begins behind this, whose last character it is. Asked often: it looks at little. */
function isName(character: string, recent: string): boolean {
  switch (character) {
    case '.':
      return ID.test(recent.slice(-28));
    case '_':
      return recent.endsWith('rackstart_');
    case ' ':
      return /[r:=]/i.test(recent.charAt(recent.length - 2)) && NAMED.test(recent.slice(-24));
    case '=':
    case ':':
    case '"':
    case "'":
      return NAMED.test(recent.slice(-24));
    default:
      return false;
  }
}

/** The text with everything overwritten that looks like a secret. */
export function maskSecrets(text: string): string {
  return new SecretMask().mask(text);
}

// 256 bits in base64url: what the tokens of `pxe/http/token` end with.
const TOKEN = 43;
const WINDOW = 64;
const VALUE = /[A-Za-z0-9_.~+/=-]/;
const BASE64 = /[A-Za-z0-9+/=]/;
const PLAIN = /[^=:"' _.\-\r\n\x1b]+/y;
// `token=`, `"password": "`, `Bearer `.
const NAMED = /((token|bearer|password|passwd|credential|secret|authorization)["']?\s*[:=]\s*["']?|bearer )$/i;
// What a bearer and an agent's credential begin with (`pxe/http/token`).
const ID = /_[0-9a-hjkmnp-tv-z]{26}\.$/;
const PRIVATE_KEY = /BEGIN [A-Z ]*PRIVATE KEY-----$/;
