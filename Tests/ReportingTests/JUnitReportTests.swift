import ABIChecker
import Testing

@testable import Reporting

@Suite struct JUnitReportTests {
  @Test func aReportForCIServersReadsLikeThis() throws {
    var report = Samples.report
    report.verdicts.remove(at: 2)
    report.hostname = "node1"
    report.date = "2026-11-25T02:35:00Z"
    let text = JUnitReport(report).text
    for part in [
      """
      <?xml version="1.0" encoding="UTF-8"?>
      <testsuites name="kvmclock" tests="4" failures="1" errors="0" time="1.324">
      """,
      """
        <testsuite name="The version protocol" tests="1" failures="1" errors="0" skipped="0" \
      timestamp="2026-11-25T02:35:00Z" hostname="node1">
          <properties>
            <property name="kvmclock" value="0.1.0"/>
            <property name="host" value="node1"/>
            <property name="kernel" value="Linux 6.1.0-test"/>
      """,
      """
          <testcase classname="kvmclock" name="MSR-INDEX-LIST"><system-out>4 MSRs in the list</system-out></testcase>
      """,
      """
          <testcase classname="kvmclock" name="VERSION-EVEN"><failure type="broken" \
      message="seen: version 3, which is odd">rule: 
      """,
      "\nwhere: events 4, 5 of scenario version, out/version.1.kvmclock.jsonl\n",
      "\nand 2 more violations\nrepeat: kvmclock run VERSION-EVEN --scenario version --seed 42</failure></testcase>\n",
      #"name="CPUID-FEATURES"><skipped type="not tested" message="no leaf # ok 5 \ 0x40000000"/>"#,
      #"name="PAGE-SIZE-32"><skipped type="inconclusive" message="the scenario ended early:"#,
    ] {
      #expect(text.contains(part), "\(text)")
    }
  }

  /// A case takes as long as all attempts at its scenario did; one whose scenario did not run has no time.
  @Test func aCaseHasTheTimeOfItsScenario() {
    var report = Samples.report
    report.timings = [
      ScenarioTiming(scenario: "version", attempt: 1, nanoseconds: 1_300_000_000),
      ScenarioTiming(scenario: "version", attempt: 2, nanoseconds: 45_600_000),
      ScenarioTiming(scenario: "discovery", attempt: 1, nanoseconds: 999_999),
    ]
    let text = JUnitReport(report).text
    for part in [
      #"<testcase classname="kvmclock" name="VERSION-EVEN" time="1.345">"#,
      #"<testcase classname="kvmclock" name="MSR-INDEX-LIST" time="0.000">"#,
      #"<testcase classname="kvmclock" name="RATE-RAW"><"#,
      #"errors="0" time="1.324">"#,
    ] {
      #expect(text.contains(part), "\(part)")
    }
  }

  @Test func aKnownDeviationFailsOnlyWhenStrict() {
    var report = Samples.report
    report.verdicts = [Samples.verdicts[2]]
    #expect(JUnitReport(report).text.contains(#"<skipped type="known" message="kernels before"#))
    report.strict = true
    #expect(JUnitReport(report).text.contains(#"<failure type="broken" message="seen: 9 ns # too"#))
    #expect(JUnitReport(report).text.contains(#"failures="1" errors="0""#))
  }

  @Test func aRunThatDidNotEndOrTestedNothingIsAnError() {
    var report = Samples.report
    report.planned = 33
    report.interruption = "SIGINT"
    #expect(
      JUnitReport(report).text.contains(
        #"name="complete"><error type="run" message="interrupted by SIGINT: 28 rules of 33 not "#))
    report.interruption = nil
    report.verdicts = [Samples.verdicts[3]]
    #expect(JUnitReport(report).text.contains(#"errors="1""#))
    #expect(JUnitReport(report).text.contains(#"message="NOTHING WAS TESTED: this run says"#))
    report.noGuestRuns = "vcpu0 did not answer"
    #expect(JUnitReport(report).text.contains(#"errors="1""#))
    #expect(JUnitReport(report).text.contains(#"message="BROKEN: no guest runs: vcpu0 did not"#))
  }

  @Test func noTextFromAHistoryCanEndAnElement() {
    var report = Samples.report
    report.host.kernel = "6.1\"/><script>&amp;]]>\u{0}\u{ffff}'"
    let text = JUnitReport(report).text
    #expect(
      text.contains(
        "value=\"Linux 6.1&quot;/&gt;&lt;script&gt;&amp;amp;]]&gt; \u{fffd}&#39;\""))
  }
}

@Suite struct MarkdownReportTests {
  @Test func aReportForIssuesReadsLikeThis() throws {
    let even = try #require(Rule.named("VERSION-EVEN"))
    let text = MarkdownReport(Samples.report).text
    for part in [
      "# kvmclock: NOT SOUND\n\n1 rule of 4 tested is broken; 1 known kernel bug (of \(Rule.ofKVM.count) in all).\n\n",
      "| kernel | Linux 6.1.0-test |\n| backend | kvm\\_intel |\n",
      "## Broken\n\n### VERSION-EVEN\n\n> \(MarkdownText.escape(even.statement))\n\n- *Source*: ",
      "- *Expected*: version 2\n  *Seen*: **version 3, which is odd**\n  *Where*: events 4, 5 of",
      "- and 2 more violations\n- *Repeat*: kvmclock run VERSION-EVEN --scenario version --seed 42\n",
      "## Broken, but excused\n\n- `RATE-RAW`: known; kernels before 6.3: kvm.ko keeps",
      "## Inconclusive\n\n- the scenario ended early:  \\[2J: `PAGE-SIZE-32`\n",
      "## Not tested\n\n- no leaf \\# ok 5 \\\\ 0x40000000: `CPUID-FEATURES`\n",
      "| The version protocol |  |  | 1 |  |  |  |  |  |\n",
      "| **All** | **1** | **0** | **1** | **1** | **0** | **0** | **1** | **1** |\n",
    ] {
      #expect(text.contains(part), "\(text)")
    }
  }

  @Test func noTextFromAHistoryIsMarkup() {
    #expect(
      MarkdownText.escape("<b>*@me #1 [a](b) `c` | d\n# e & ~")
        == ##"&lt;b&gt;\*&#64;me \#1 \[a\](b) \`c\` \| d \# e &amp; \~"##)
  }
}
