/** A method of forecasting on its way along a series: it tells what it expects, and is then told what came. */
export interface Walk {
  /** The mean count of the bucket that many ahead; 1 is the next. May be below nought where a method is linear. */
  expect(ahead: number): number;
  /** The count of the next bucket; undefined where nobody knows it, which teaches nothing. */
  see(count: number | undefined): void;
}
