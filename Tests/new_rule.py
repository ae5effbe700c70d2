"""make new-rule ID=MY-RULE [TOPIC=text]: a rule's file, its place in a topic and its tests, red until they are filled in."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RULE = '''extension Rule {
  static let NAME = Rule(
    "ID",
    "FILL IN: one sentence of the ABI.",
    sources: [.msr("FILL IN: the section or the field that promises it")],
    method: "FILL IN: what the scenario does, and what is compared.",
    scenarios: [.registration],
    coverage: [.observations(2, "FILL IN: what the sentence's quantifiers ask for")]
  ) { timeline, findings in
    for record in timeline.writtenPages where !record.isShared {
      findings.expect(
        false, at: [record.event], "FILL IN: what is allowed, in numbers with units",
        seen: "FILL IN: what was seen")
    }
  }
}
'''
TESTS = '''import Testing

@testable import ABIChecker

@Suite struct TYPETests {
  @Test func theRuleIsFilledIn() throws {
    let rule = try #require(Rule.named("ID"))
    for text in [rule.statement, rule.source, rule.method] { #expect(!text.contains("FILL IN")) }
  }

  @Test func anHonestHistoryHolds() throws {
    var host = HistoryBuilder()
    host.machine(0)
    for _ in 0..<2 { host.register(0) }
    try expectHolds("ID", host.history)
  }

  /// One test for each way in which it is broken, with the numbers that the reader has to see.
  @Test func fillInWhatBreaksIt() throws {
    var host = HistoryBuilder()
    host.machine(0)
    host.register(0)
    try expectBroken("ID", host.history, "FILL IN: expected", "FILL IN: seen")
  }

  @Test func tooLittleTestsNothing() throws {
    var host = HistoryBuilder()
    host.machine(0)
    try expectNotTested("ID", host.history)
  }
}
'''


def main(identifier, topic):
    words = identifier.split("-")
    if not re.fullmatch(r"[A-Z][A-Z0-9]*(-[A-Z0-9]+)+", identifier):
        return f"'{identifier}' is no id of a rule: upper-case words with hyphens, the topic first: make new-rule ID=SYSTIME-MY-RULE"
    rules = ROOT / "Sources/ABIChecker/Rules"
    if any(f'"{identifier}"' in path.read_text() for path in rules.glob("*.swift")):
        return f"there is a rule {identifier}: kvmclock explain {identifier}"
    topics = ROOT / "Sources/ABIChecker/Topic.swift"
    text = topics.read_text()
    places = [line for line in text.splitlines() if line.startswith("    Topic(") and topic.lower() in line.lower()]
    if len(places) != 1:
        return f"TOPIC='{topic}' is in {len(places)} lines of {topics.relative_to(ROOT)}: name a part of one topic's title"
    type_name = "".join(word.capitalize() for word in words)
    name = words[0].lower() + "".join(word.capitalize() for word in words[1:])
    files = {rules / f"{type_name}.swift": RULE, ROOT / f"Tests/ABICheckerTests/{type_name}Tests.swift": TESTS}
    for path, template in files.items():
        path.write_text(template.replace("NAME", name).replace('"ID"', f'"{identifier}"').replace("TYPE", type_name))
    topics.write_text(text.replace(places[0], places[0].removesuffix("),") + f" + [{name}]),"))
    for path in [*files, topics]:
        print(path.relative_to(ROOT))
    print(f"Fill in what says FILL IN, then: swift test --filter {type_name}Tests. What follows: CONTRIBUTING.md, “A rule”.")
    return None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
