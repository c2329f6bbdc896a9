// The pictures of the three videos.

const SKY = { dusk: ["#2b2d6e", "#e8618c", "#ffc78a"], night: ["#0b1630", "#1e3a6d", "#3d6ea8"], day: ["#8fd3f4", "#d9f2ff", "#fff6df"] };

function Sky({ id, colors }: { id: string; colors: string[] }) {
  return (
    <>
      <defs>
        <linearGradient id={id} x1="0" y1="0" x2="0" y2="1">
          {colors.map((color, index) => <stop key={color} offset={index / (colors.length - 1)} stop-color={color} />)}
        </linearGradient>
      </defs>
      <rect width="320" height="180" fill={`url(#${id})`} />
    </>
  );
}

function Fjord() {
  return (
    <>
      <Sky id="dusk" colors={SKY.dusk} />
      <circle cx="214" cy="92" r="26" fill="#fff1cf" />
      <path d="M0 112 46 72l34 28 40-46 58 62 34-24 54 38 54-30v60H0Z" fill="#5a2f6b" opacity=".75" />
      <path d="M0 128 60 96l52 30 62-22 60 28 86-26v40H0Z" fill="#3a2150" />
      <path d="M0 134h320v46H0Z" fill="#e8618c" opacity=".35" />
      <path d="M194 142h40M186 152h56M200 162h28M190 172h48" stroke="#fff1cf" stroke-width="2" opacity=".7" />
    </>
  );
}

function City() {
  const towers = [[6, 70, 34], [44, 42, 28], [76, 88, 40], [120, 30, 30], [154, 64, 44], [202, 46, 26], [232, 80, 38], [274, 54, 40]] as const;
  return (
    <>
      <Sky id="night" colors={SKY.night} />
      {towers.map(([x, y, width]) => <rect key={x} x={x} y={y} width={width} height={180 - y} fill="#0a1224" />)}
      {towers.flatMap(([x, y, width]) =>
        Array.from({ length: 14 }, (_, index) => {
          const [column, row] = [index % 2, Math.floor(index / 2)];
          const isLit = (x * 7 + index * 13) % 5 < 3;
          return isLit && y + 10 + row * 16 < 172 ? <rect key={`${x} ${index}`} x={x + 6 + column * (width / 2 - 2)} y={y + 10 + row * 16} width="7" height="7" fill={(x + index) % 4 === 0 ? "#ff9ec2" : "#ffd98a"} opacity=".9" /> : null;
        }),
      )}
      <path d="M20 0-4 60M70 0 40 74M130 0 98 80M190 0 160 74M250 0 214 90M310 0 276 84" stroke="#cfe3ff" stroke-width="1.2" opacity=".35" />
    </>
  );
}

function Planes() {
  return (
    <>
      <Sky id="day" colors={SKY.day} />
      <path d="M0 150c40-24 70-10 104-18s60-26 110-10 70 4 106-8v66H0Z" fill="#7cc79a" />
      <path d="M0 164c60-14 110 4 160-4s100-14 160-2v22H0Z" fill="#4da37a" />
      <g fill="#fff" opacity=".9"><ellipse cx="66" cy="42" rx="30" ry="9" /><ellipse cx="250" cy="30" rx="36" ry="10" /></g>
      <path d="M52 130C90 90 128 82 176 88" fill="none" stroke="#fff" stroke-width="2" stroke-dasharray="2 7" />
      <path d="m176 60 74 22-66 34 6-28Z" fill="#fff" />
      <path d="m190 88 60-6-66 34Z" fill="#d5dbe8" />
      <path d="m84 62 34 10-30 16 3-13Z" fill="#ffe3ea" />
    </>
  );
}

const SCENES = [Fjord, City, Planes];

export function Scene({ index }: { index: number }) {
  const Picture = SCENES[index]!;
  return <svg class="scene" viewBox="0 0 320 180" preserveAspectRatio="xMidYMid slice" aria-hidden="true"><Picture /></svg>;
}
