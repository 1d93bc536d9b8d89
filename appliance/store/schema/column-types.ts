export type Json = string;
/** Since the epoch. */
export type Millis = number;
