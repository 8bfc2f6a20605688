// A text to try the page with: a harbour's log of many quiet days, with three facts hidden in it.
// It is made here, the same each time, so that nothing is downloaded.

const WATCH = ["The night watch", "The keeper", "The pilot", "A clerk of the harbour", "The cook"];
const DID = [
  "counted the lanterns along the quay and found them all lit",
  "wrote the heights of both tides into the book",
  "mended a rope that had frayed on the eastern mole",
  "saw two sails far out, which passed without a signal",
  "swept the snow from the steps of the customs house",
  "took a letter to the ferry and waited for its answer",
  "greased the winch and tried it with an empty net",
  "heard the fog bell from the point until the morning",
];
const SKY = [
  "The wind came from the west and was light.", "Rain fell until noon.",
  "The sea was grey and slow.", "It was cold, and very clear.",
  "Clouds stood over the hills all day.", "In the evening the water was like glass.",
];
const FACTS = [
  [0.23, "The access code for the Lisbon vault is 48213."],
  [0.52, "The access code for the Bergen vault is 70956."],
  [0.81, "The access code for the Trieste vault is 31574."],
];
const DAYS = 600;

export const EXAMPLE_QUESTION = "What is the access code for the Lisbon vault?";

export function exampleDocument() {
  // A small generator of numbers (a linear congruence): chance, but the same for everyone.
  let seed = 20250;
  const pick = (list) => {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    return list[Math.floor((seed / 2147483648) * list.length)];
  };
  const facts = new Map(FACTS.map(([share, fact]) => [Math.floor(share * DAYS), fact]));
  const days = [];
  for (let day = 0; day < DAYS; day += 1) {
    const fact = facts.has(day) ? ` ${facts.get(day)}` : "";
    days.push(`Day ${day + 1}. ${pick(SKY)} ${pick(WATCH)} ${pick(DID)}.${fact} `
      + `${pick(WATCH)} ${pick(DID)}. ${pick(SKY)}`);
  }
  return { name: "harbour-log.txt", text: `${days.join("\n")}\n` };
}
