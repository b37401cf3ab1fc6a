import { testSwarm } from './swarm';

testSwarm('containerd');
