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

  @Test func whatMarkdownWouldTakeForItsOwnIsEscaped() {
    let text = Catalogue.markdown()
    #expect(text.contains("pad\\[2\\]"))
    #expect(!text.contains("pad[2]"))
  }
}
