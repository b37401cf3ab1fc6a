import { signalNumber } from '../../../../runtime-native/command/commands/kill';

describe('signalNumber()', () => {
  test.each([
    ['9', 9],
    ['0', 0],
    ['KILL', 9],
    ['sigterm', 15],
    ['RTMIN', 34],
    ['SIGRTMIN+3', 37],
    ['RTMAX-14', 50],
    ['64', 64],
  ])('%s is %d', (text, number) => {
    expect(signalNumber(text)).toBe(number);
  });

  test.each(['', 'NOTHING', '65', '-1', 'RTMIN-1', 'RTMAX+1', '9 '])('refuses %j', (text) => {
    expect(() => signalNumber(text)).toThrow(`unknown signal "${text}"`);
  });
});
