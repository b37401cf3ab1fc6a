import { ALL_CAPABILITIES, capabilityNames, DEFAULT_CAPABILITIES } from '../../../../cli/spec/capabilities';

test('capabilityNames() drops first and adds then', () => {
  expect(capabilityNames(DEFAULT_CAPABILITIES, ['chown'], ['all'])).toEqual(['CAP_CHOWN']);
  expect(capabilityNames(['CAP_CHOWN'], ['net_admin', 'CAP_CHOWN'], [])).toEqual(['CAP_CHOWN', 'CAP_NET_ADMIN']);
  expect(capabilityNames([], ['ALL'], [])).toEqual(ALL_CAPABILITIES);
  expect(() => capabilityNames([], ['fly'], [])).toThrow('unknown capability "fly"');
});

test('ALL_CAPABILITIES are in the order of their numbers', () => {
  expect(ALL_CAPABILITIES.indexOf('CAP_SYS_ADMIN')).toBe(21);
  expect(ALL_CAPABILITIES.indexOf('CAP_CHECKPOINT_RESTORE')).toBe(40);
});
