import { useId } from 'react';
import { texts } from '../texts';

function emptyText(kind: MediaDeviceKind, devices: readonly MediaDeviceInfo[]): string {
  if (kind === 'audiooutput') return texts.devices.systemDefault;
  const exists = devices.some((device) => device.kind === kind);
  return exists ? texts.devices.notAllowed : texts.devices.none;
}

interface Props {
  label: string;
  kind: MediaDeviceKind;
  devices: readonly MediaDeviceInfo[];
  value: string | undefined;
  onChoose: (id: string) => void;
}

export function DeviceSelect({ label, kind, devices, value, onChoose }: Props) {
  const id = useId();
  // Before permission browsers list devices without an id, which cannot be chosen.
  const options = devices.filter((device) => device.kind === kind && device.deviceId);
  const known = options.some((device) => device.deviceId === value);
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      <select
        id={id}
        disabled={options.length === 0}
        value={known ? value : (options[0]?.deviceId ?? '')}
        onChange={(event) => onChoose(event.target.value)}
      >
        {options.length === 0 && <option value="">{emptyText(kind, devices)}</option>}
        {options.map((device, i) => (
          <option key={device.deviceId} value={device.deviceId}>
            {device.label || texts.devices.numbered(label, i + 1)}
          </option>
        ))}
      </select>
    </div>
  );
}
