import type { ReactNode } from 'react';

/** Line icons on a 24 px grid. They are decoration: the control that holds one has the name. */
function icon(content: ReactNode) {
  return function Icon() {
    return (
      <svg className="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
        {content}
      </svg>
    );
  };
}

const slash = <path d="M4 4l16 16" />;
const microphone = (
  <>
    <rect x="9" y="3" width="6" height="11" rx="3" />
    <path d="M5.5 11a6.5 6.5 0 0 0 13 0M12 17.5V21" />
  </>
);
const camera = (
  <>
    <rect x="3" y="6.5" width="12.5" height="11" rx="2.5" />
    <path d="M15.5 10.5L21 7.5v9l-5.5-3" />
  </>
);
const screen = <rect x="3" y="4.5" width="18" height="12" rx="2" />;

export const MicrophoneIcon = icon(microphone);
export const MicrophoneOffIcon = icon(
  <>
    {microphone}
    {slash}
  </>,
);
export const CameraIcon = icon(camera);
export const CameraOffIcon = icon(
  <>
    {camera}
    {slash}
  </>,
);
export const ShareIcon = icon(
  <>
    {screen}
    <path d="M8 20h8M12 13.5v-6M9.5 9.5L12 7l2.5 2.5" />
  </>,
);
export const StopShareIcon = icon(
  <>
    {screen}
    <path d="M8 20h8M9.5 8l5 5M14.5 8l-5 5" />
  </>,
);
export const ChatIcon = icon(
  <path d="M4 6.5A2.5 2.5 0 0 1 6.5 4h11A2.5 2.5 0 0 1 20 6.5v7a2.5 2.5 0 0 1-2.5 2.5H10l-4.5 4v-4A2 2 0 0 1 4 14z" />,
);
export const PeopleIcon = icon(
  <>
    <circle cx="9" cy="8.5" r="3.5" />
    <path d="M2.5 20c.4-3.8 2.9-6 6.5-6s6.1 2.2 6.5 6M15.5 5.3a3.5 3.5 0 0 1 0 6.4M18 14.8c2 .9 3.2 2.7 3.5 5.2" />
  </>,
);
export const GridIcon = icon(
  <>
    <rect x="4" y="4" width="7" height="7" rx="1.5" />
    <rect x="13" y="4" width="7" height="7" rx="1.5" />
    <rect x="4" y="13" width="7" height="7" rx="1.5" />
    <rect x="13" y="13" width="7" height="7" rx="1.5" />
  </>,
);
export const SpeakerViewIcon = icon(
  <>
    <rect x="3" y="5" width="12" height="14" rx="2" />
    <path d="M18.5 6v2.5M18.5 10.75v2.5M18.5 15.5V18" />
  </>,
);
export const StatisticsIcon = icon(<path d="M4 20h16M7 16v-4M12 16V6M17 16V9" />);
export const SettingsIcon = icon(
  <>
    <path d="M4 7h9M17 7h3M4 17h3M11 17h9" />
    <circle cx="15" cy="7" r="2" />
    <circle cx="9" cy="17" r="2" />
  </>,
);
export const KeyboardIcon = icon(
  <>
    <rect x="2.5" y="6" width="19" height="12" rx="2" />
    <path d="M6.5 10h.01M10 10h.01M14 10h.01M17.5 10h.01M8 14h8" />
  </>,
);
export const LeaveIcon = icon(
  <path d="M3.5 14.5c-.8-1-.7-2.5.4-3.4 4.8-3.7 11.4-3.7 16.2 0 1.1.9 1.2 2.4.4 3.4l-.6.7c-.5.6-1.3.7-2 .3l-2-1.3c-.5-.3-.8-.9-.7-1.5l.2-1.3a11 11 0 0 0-6.8 0l.2 1.3c.1.6-.2 1.2-.7 1.5l-2 1.3c-.7.4-1.5.3-2-.3z" />,
);
export const PinIcon = icon(<path d="M9 4h6l-.8 6 3.3 3v2h-11v-2l3.3-3zM12 15v5.5" />);
export const CloseIcon = icon(<path d="M6 6l12 12M18 6L6 18" />);
export const SendIcon = icon(<path d="M4 12L20.5 4.5 16 20l-4-6.5zM12 13.5L20.5 4.5" />);
export const LinkIcon = icon(
  <path d="M10 14a4 4 0 0 0 5.7 0l3-3A4 4 0 0 0 13 5.3l-1 1M14 10a4 4 0 0 0-5.7 0l-3 3A4 4 0 0 0 11 18.7l1-1" />,
);
export const PreviousIcon = icon(<path d="M14.5 6l-6 6 6 6" />);
export const NextIcon = icon(<path d="M9.5 6l6 6-6 6" />);
export const RefreshIcon = icon(
  <path d="M19 12a7 7 0 1 1-2.2-5.1L19 9M19 4.5V9h-4.5" />,
);
