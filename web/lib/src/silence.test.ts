import { expect, it } from "vitest";
import { Silence } from "./silence.ts";

const report = (bytesReceived: number, responsesReceived = 1): object[] => [
  { type: "transport" },
  { type: "candidate-pair", bytesReceived, responsesReceived },
  { type: "candidate-pair" },
];

it("is noticed once, when nothing has come for a while, and not by who never heard anything", () => {
  const silence = new Silence();
  const looks = (...reports: object[][]): boolean[] => reports.map((entries) => silence.begins(entries));
  const no = (count: number): boolean[] => new Array<boolean>(count).fill(false);
  expect(looks(...Array.from({ length: 9 }, () => report(0, 0)))).toEqual(no(9));
  expect(looks(report(5), report(6), report(6), report(6), report(6))).toEqual(no(5));
  expect(looks(report(6), report(6), report(6))).toEqual([true, false, false]);
  expect(looks(report(6, 2), report(6, 2), report(6, 2), report(6, 2), report(6, 2))).toEqual([...no(4), true]);
});
