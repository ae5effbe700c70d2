import ABIChecker
import Foundation
import Testing

@testable import Reporting

@Suite struct CatalogueTests {
  @Test func everyRuleIsThere() {
    let lines = Catalogue.markdown().split(separator: "\n")
    for rule in Rule.all {
      #expect(lines.count { $0 == "### \(rule.id)" || $0 == "### \(rule.id) (observation)" } == 1)
    }
  }

  @Test func whatWasNeverSeenToFailIsListedInTheEnd() throws {
    let text = Catalogue.markdown()
    let start = try #require(text.range(of: "## Never seen to fail"))
    for id in Rule.neverSeenToFail { #expect(text[start.upperBound...].contains(id), "\(id)") }
    #expect(!text[start.upperBound...].contains("VERSION-EVEN"))
    let proved = Rule.topics.filter { $0.rules.contains { $0.id == "VERSION-EVEN" } }
    #expect(!Catalogue.markdown(proved).contains("## Never seen to fail"))
  }

  @Test func whatMarkdownWouldTakeForItsOwnIsEscaped() {
    let text = Catalogue.markdown()
    #expect(text.contains("pad\\[2\\]"))
    #expect(!text.contains("pad[2]"))
  }

  @Test func aRuleSaysWhatItNeedsAndCovers() throws {
    let rule = try #require(Rule.named("MSR-READBACK"))
    let items = Catalogue.items(rule, faults: ["a fault"])
    #expect(items.contains { $0.0 == "Source (document)" })
    #expect(
      items.contains { $0.0 == "Coverage" && $0.1.contains("at least 8 readings of the MSR") })
    #expect(items.contains { $0.0 == "Fails on" && $0.1 == "a fault" })
    let owed = try #require(Rule.named("TSCADJ-GUESTWRITE-CONTINUES"))
    #expect(Catalogue.items(owed).contains { $0.0 == "Owed since" && $0.1.contains("5.15") })
  }
}

/// Every link between the documents leads somewhere.
@Suite struct LinkTests {
  static let root = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../..")
    .standardized
  static let documents = [
    "README.md", "CONTRIBUTING.md", "docs/ABI.md", "docs/2015.md", "docs/findings.md",
    "docs/mutants.md", "lab/README.md", "fleet/README.md", "guest-images/README.md",
  ]

  static func text(_ path: String) throws -> String {
    try String(contentsOf: root.appending(path: path), encoding: .utf8)
  }

  static func anchors(_ path: String) throws -> Set<String> {
    Set(
      try text(path).split(separator: "\n").filter { $0.hasPrefix("#") }.map {
        Catalogue.anchor(
          $0.drop { $0 == "#" }.trimmingCharacters(in: .whitespaces).filter { $0 != "`" })
      })
  }

  @Test(arguments: documents)
  func everyLinkLeadsSomewhere(path: String) throws {
    let folder = Self.root.appending(path: path).deletingLastPathComponent()
    for match in try Self.text(path).matches(of: /\]\(([^)\s]+)\)/) {
      let link = String(match.1)
      if link.hasPrefix("http") { continue }
      let parts = link.split(separator: "#", maxSplits: 1, omittingEmptySubsequences: false)
      let file = parts[0].isEmpty ? path : String(parts[0])
      let target = parts[0].isEmpty ? Self.root.appending(path: path) : folder.appending(path: file)
      #expect(FileManager.default.fileExists(atPath: target.path()), "\(path): \(link)")
      guard parts.count == 2 else { continue }
      let relative = target.standardized.path().dropFirst(Self.root.path().count)
      let name = String(relative.drop { $0 == "/" })
      #expect(try Self.anchors(name).contains(String(parts[1])), "\(path): \(link)")
    }
  }
}

/// What shipped kernels break is told for those who meet it.
@Suite struct FindingsTests {
  /// Each section, and the rules that head it.
  static func sections() throws -> [(rules: [String], text: String)] {
    try LinkTests.text("docs/findings.md").components(separatedBy: "\n### ").dropFirst().map {
      ($0.prefix { $0 != "\n" }.components(separatedBy: ", "), $0)
    }
  }

  @Test(arguments: Set(KnownDeviation.table.map(\.rule)).sorted())
  func aKnownDeviationHasOneSection(rule: String) throws {
    #expect(try Self.sections().count { $0.rules.contains(rule) } == 1)
  }

  @Test func aSectionSaysWhatAReaderAsks() throws {
    for (rules, text) in try Self.sections() {
      for label in ["Who sees it", "How bad", "Seen on", "Cause", "Fix", "Command"] {
        #expect(text.components(separatedBy: "\n- *\(label)*: ").count == 2, "\(rules): \(label)")
      }
      let command = text.components(separatedBy: "*Command*: ")[1].prefix { $0 != "\n" }
      for rule in rules {
        #expect(Rule.named(rule) != nil)
        #expect(command.contains(rule), "\(rule)")
      }
    }
  }

  @Test func everyFixIsNamed() throws {
    let text = try LinkTests.text("docs/findings.md")
    let folder = LinkTests.root.appending(path: "lab/fixes")
    let names = try FileManager.default.contentsOfDirectory(atPath: folder.path())
    #expect(names.count >= 13)
    for name in names { #expect(text.contains("`\(name.dropLast(5))`"), "\(name)") }
  }
}
