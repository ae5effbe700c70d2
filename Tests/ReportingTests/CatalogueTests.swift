import ABIChecker
import Foundation
import Testing

@testable import Reporting

@Suite struct CatalogueTests {
  @Test func theDocumentIsCurrent() throws {
    let path = URL(filePath: #filePath).deletingLastPathComponent().appending(
      path: "../../docs/ABI.md")
    let written = try String(contentsOf: path, encoding: .utf8)
    #expect(written == Catalogue.markdown(), "`make docs` writes docs/ABI.md anew")
  }

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
}
