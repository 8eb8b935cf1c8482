export { Call } from './Call';
export { connectCall } from './session';
