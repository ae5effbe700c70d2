import ABIChecker
import Foundation
import Testing

@testable import Reporting

@Suite struct ComparisonTests {
  /// A report of these verdicts on the rules A, B, C, …
  static func report(_ name: String, _ words: [Status]) -> SavedReport {
    let letters = ["A", "B", "C", "D"]
    let entries = words.enumerated().map { index, word in
      SavedReport.Entry(
        rule: letters[index], topic: "T", statement: "Holds <it>.", verdict: word, summary: "s",
        scenario: "s",
        violations: word == .broken ? [SavedReport.Proof(seen: "-5 ns of \(name)")] : nil)
    }
    return SavedReport(
      path: "out/\(name).json", kvmclock: "0.1.0", hostname: name, host: Samples.host,
      counts: ReportDocument.Counts(Samples.report), verdicts: entries)
  }

  @Test func ofTwoTheSecondIsHeldAgainstTheFirst() {
    let old = Self.report("old", [.holds, .broken, .holds, .notTested])
    let new = Self.report("new", [.broken, .holds, .holds, .holds])
    let comparison = Comparison([old, new])
    #expect(comparison.rows.map(\.change) == [.worse, .mended, .alike, .otherwise])
    #expect(comparison.exitCode == 1)
    #expect(
      comparison.render(.text) == """
        BROKEN on 2 of 2 reports: 2 rules.
        new breaks 1 rule that old does not.
        BROKEN   A: holds on old; BROKEN on new; seen: -5 ns of new
        BROKEN   B: BROKEN on old; holds on new; seen: -5 ns of old
        differs  D: not tested on old; holds on new
        A  old (Linux 6.1.0-test; kvm_intel; clocksource tsc; old)
        B  new (Linux 6.1.0-test; kvm_intel; clocksource tsc; new)
        4 rules in 2 reports: 2 broken, 1 differs, 1 alike

        """)
    #expect(Comparison([new, old]).rows.map(\.change) == [.mended, .worse, .alike, .otherwise])
  }

  /// Nothing tested is not the same as that all is well.
  @Test func aReportThatTestedNothingIsNotGreen() {
    let good = Self.report("a", [.holds, .holds])
    let empty = Self.report("b", [.notTested, .notTested])
    let comparison = Comparison([good, empty, Self.report("c", [.holds, .holds])])
    #expect(comparison.exitCode == 2)
    #expect(comparison.render(.text).contains("No rule is broken.\nNothing was tested on b.\n"))
    #expect(comparison.render(.html).contains("Nothing was tested on b"))
    #expect(Comparison([good, good]).exitCode == 0)
    #expect(Comparison([empty, Self.report("c", [.broken, .holds])]).exitCode == 1)
  }

  @Test func aHostOnWhichNoGuestRunsIsBroken() {
    let good = Self.report("a", [.holds, .holds])
    var lost = Self.report("b", [.notTested, .notTested])
    lost.noGuestRuns = "vcpu0 did not answer"
    let comparison = Comparison([good, lost, Self.report("c", [.holds, .holds])])
    #expect(comparison.exitCode == 1 && comparison.brokenReports == [1])
    let text = comparison.render(.text)
    #expect(text.hasPrefix("BROKEN on 1 of 3 reports.\nNo guest runs on b.\n"))
  }

  @Test func ofManyEachIsHeldAgainstMost() {
    var reports = (1...7).map { Self.report("n\($0)", [.holds, .broken]) }
    reports[3] = Self.report("n4", [.broken, .broken])
    reports[5] = Self.report("n6", [.holds, .holds])
    let comparison = Comparison(reports)
    #expect(comparison.rows.map(\.change) == [.worse, .mended])
    #expect(comparison.groups.map(\.members) == [[0, 1, 2, 4, 6], [3], [5]])
    let text = comparison.render(.text)
    #expect(
      text.hasPrefix(
        "BROKEN on 6 of 7 reports: 2 rules.\n1 rule broken on some and not on most.\nBROKEN   A: "))
    #expect(text.contains("\nBROKEN   B: BROKEN on 6: n1, n2, n3 and 3 more; holds on n6; seen: "))
    #expect(text.contains("\n   A B C\nA  + X +\nB  X X +\n"))
    #expect(text.contains("\nA  5 reports: n1, n2, n3 and 2 more (Linux 6.1.0-test"))
  }

  @Test func aRuleThatAllReportsBreakIsListedUnlessOnlyDifferencesCount() throws {
    let one = Self.report("a", [.holds, .broken])
    let comparison = Comparison([one, one, one])
    #expect(comparison.exitCode == 1)
    let text = comparison.render(.text)
    #expect(text.hasPrefix("BROKEN on 3 of 3 reports: 1 rule.\nBROKEN   B: BROKEN on out/a.json, "))
    #expect(text.contains("\n   A\nB  X\n"))
    #expect(text.hasSuffix("\n2 rules in 3 reports: 1 broken, 0 differ, 1 alike\n"))
    let json = comparison.render(.json)
    #expect(json.contains(#""brokenOn" : ["#) && json.contains(#""exitStatus" : 1"#))
    let difference = Comparison([one, one, one], onlyDifferences: true)
    #expect(difference.exitCode == 0)
    #expect(difference.render(.text).hasPrefix("No verdict differs.\nA  3 reports: "))
  }

  @Test func aReportThatBreaksNothingIsNotCounted() {
    let sound = Self.report("a", [.holds, .known])
    let text = Comparison([sound, Self.report("b", [.notTested, .known])]).render(.text)
    #expect(text.hasPrefix("No rule is broken.\ndiffers  A: holds on a; not tested on b\n"))
    let one = Comparison([sound, sound, Self.report("c", [.holds, .broken])])
    #expect(one.render(.text).hasPrefix("BROKEN on 1 of 3 reports: 1 rule.\n1 rule broken on some"))
  }

  @Test func aRuleThatOneReportLacksIsNotJudgedThere() {
    let comparison = Comparison([Self.report("a", [.holds]), Self.report("b", [.holds, .broken])])
    #expect(comparison.rows[1].words == [nil, .broken])
    #expect(comparison.rows[1].change == .worse)
    #expect(comparison.sentence(comparison.rows[1]) == "not judged on a; BROKEN on b")
  }

  @Test func filesOfOneNameAreToldApartByTheirPaths() {
    var reports = [Self.report("a", [.holds]), Self.report("b", [.holds])]
    #expect(Comparison(reports).names == ["a", "b"])
    reports[0].path = "1/report.json"
    reports[1].path = "2/report.json"
    #expect(Comparison(reports).names == ["1/report.json", "2/report.json"])
  }

  @Test func thePageShowsRulesAndReports() throws {
    var reports = (1...3).map { Self.report("n\($0)", [.holds, .holds]) }
    reports[1] = Self.report("n2", [.holds, .broken])
    let text = Comparison(reports).render(.html)
    #expect(text.contains("<h1>BROKEN on 1 of 3 reports: 1 rule</h1>"))
    #expect(text.contains("<code>B</code></a></th><td class=\"holds\" title=\"holds\">✓</td>"))
    #expect(text.contains("<td class=\"broken\" title=\"BROKEN\">✗</td>"))
    #expect(text.contains("Holds &lt;it&gt;."))
    let ids = try text.matches(of: Regex(#"id="([^"]*)""#)).map {
      String($0.output[1].substring ?? "")
    }
    for match in text.matches(of: try Regex(##"href="#([^"]*)""##)) {
      #expect(ids.contains(String(match.output[1].substring ?? "")))
    }
  }

  @Test func theTableBeginsWithWhatDiffersAndHasReportsOfOneKernelTogether() throws {
    var reports = (1...3).map { Self.report("n\($0)", [.holds, .holds]) }
    reports[1] = Self.report("n2", [.holds, .broken])
    #expect(!Comparison(reports).render(.html).contains("class=\"kind\""), "one kernel")
    reports[1].host.kernel = "7.3.0"
    let text = Comparison(reports).render(.html)
    let heads = text.matches(of: /<th class="kind" colspan="(\d)">Linux ([0-9.]+)/)
    #expect(heads.prefix(2).map(\.output.1) == ["2", "1"] && heads.last?.output.2 == "7.3.0")
    let names = text.matches(of: /<span>(n\d)<\/span>/).map(\.output.1)
    #expect(names.prefix(3) == ["n1", "n3", "n2"])
    let folded = try #require(text.range(of: "<summary>1 rule on which all agree</summary>"))
    let differing = try #require(text.range(of: "<a href=\"#rule-B\"><code>B</code></a></th>"))
    #expect(differing.lowerBound < folded.lowerBound)
    #expect(text[folded.upperBound...].contains("<th><code>A</code></th>"))
  }

  @Test func manyReportsAreShownByGroups() {
    var reports = (1...300).map { Self.report("n\($0)", [.holds, .holds]) }
    reports[7] = Self.report("n8", [.broken, .holds])
    let text = Comparison(reports).render(.html)
    let facts = "Linux 6.1.0-test; kvm_intel; clocksource tsc"
    #expect(text.contains("<th title=\"\(facts)\"><span>299</span></th>"))
    #expect(text.contains("<th title=\"\(facts); n8\"><span>1</span></th>"))
  }

  /// A group had its first member's facts: 5 of 50 hosts with another kernel vanished.
  @Test func aGroupsFactsAreCounted() {
    var reports = (1...5).map { Self.report("n\($0)", [.holds]) }
    for index in 3...4 { reports[index].host.kernel = "6.2.0" }
    #expect(
      Comparison(reports).render(.text).contains(
        "(3 × Linux 6.1.0-test, 2 × Linux 6.2.0; kvm_intel; clocksource tsc)"))
  }

  @Test func groupsByFactsShowTheirWorstVerdict() {
    var reports = (1...5).map { Self.report("n\($0)", [$0 == 2 ? .broken : .holds]) }
    for index in 3...4 { reports[index].host.kernel = "6.2.0" }
    let text = Comparison(reports, by: [.kernel]).render(.text)
    #expect(text.contains("\n   A B\nA  X +\n"), "\(text)")
    #expect(text.contains("\nA  3 reports: n1, n2, n3 (Linux 6.1.0-test; "))
    #expect(Comparison(reports, by: [.kernel]).render(.html).contains("worst verdict of them"))
  }

  @Test func withABaselineItSaysWhatIsUsual() {
    let reports = [[Status.holds], [.broken], [.broken]].enumerated().map {
      Self.report("n\($0)", $1)
    }
    #expect(Comparison(reports).count(.worse) == 0)
    let comparison = Comparison(reports, hasBaseline: true)
    #expect(comparison.count(.worse) == 1)
    #expect(comparison.render(.text).contains("\n1 rule broken on some that n0 does not break.\n"))
  }

  @Test func asMarkdownItHasATable() {
    let text = Comparison([Self.report("a", [.holds]), Self.report("b", [.broken])])
      .render(.markdown)
    #expect(
      text.hasPrefix(
        "# BROKEN on 1 of 2 reports: 1 rule\n\nb breaks 1 rule that a does not. 1 rule in 2 reports: "
      ))
    #expect(text.contains("\n|  | A | B |\n| --- | :-: | :-: |\n| `A` | holds | BROKEN |\n"))
  }
}
