import { testSwarm } from './swarm';

testSwarm('gantryd');
