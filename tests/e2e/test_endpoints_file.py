"""Endpoints that a file lists: read at the start and when it changes, with their labels."""

import os
import signal

import harness
from harness import E2E, chat, wait_for

HEAD = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"


class EndpointsFile(E2E):
    def started(self, entries, plugins="  - type: queue-scorer\n", watch=True):
        self.path = self.file("endpoints.yaml", self.listed(entries))
        text = f"{HEAD}plugins:\n  - {{type: file-discovery, parameters: {{path: {self.path}, watchFile: {str(watch).lower()}}}}}\n"
        text += plugins + "dataLayer:\n  discovery: {pluginRef: file-discovery}\n"
        return self.gateway(flags=["--epp-config", self.file("epp.yaml", text)])

    @staticmethod
    def listed(entries):
        lines = [f'  - {{name: {name}, address: 127.0.0.1, port: "{port}"{more}}}' for name, port, more in entries]
        return "endpoints:\n" + "\n".join(lines) + "\n"

    def replace(self, text):
        """As editors and ConfigMaps do: another file takes its place."""
        with open(self.path + ".new", "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(self.path + ".new", self.path)

    def asked(self, gateway):
        """Who answered: also while all of the list are new and none was probed yet somebody does."""
        answer = self.client(gateway).request("POST", "/v1/chat/completions", chat())
        self.assertEqual(answer.status, 200, answer)
        return answer.header("x-penstock-endpoint")

    def test_it_is_read_again_when_it_changes(self):
        first, second = self.sim("--instant"), self.sim("--instant")
        gateway = self.started([("a", first.port, "")])
        gateway.wait_pods(1)
        self.assertEqual(self.asked(gateway), "a")
        self.replace(self.listed([("b", second.port, "")]))
        wait_for("the other one answers", lambda: self.asked(gateway) == "b")
        self.assertIn("endpoints: removed a", gateway.log())
        # A file that is wrong in part changes nothing.
        self.replace(self.listed([("a", first.port, ""), ("c", 0, "")]))
        wait_for("it is refused", lambda: "endpoints file refused" in gateway.log())
        self.assertIn('endpoints.yaml:3: endpoints[1].port: "0" is no port', gateway.log())
        self.assertEqual(self.asked(gateway), "b")
        self.replace(self.listed([("a", first.port, ""), ("b", second.port, "")]))
        gateway.wait_pods(2)

    def test_without_watching_it_is_read_with_the_configuration(self):
        first, second = self.sim("--instant"), self.sim("--instant")
        gateway = self.started([("a", first.port, "")], watch=False)
        gateway.wait_pods(1)
        self.replace(self.listed([("a", first.port, ""), ("b", second.port, "")]))
        gateway.signal(signal.SIGHUP)
        gateway.wait_pods(2)

    def test_labels_are_as_those_of_pods(self):
        sims = [self.sim("--instant") for _ in range(2)]
        labels = [", labels: {tier: silver}", ", labels: {tier: gold}"]
        plugins = "  - {name: gold, type: by-label, parameters: {label: tier, validValues: [gold]}}\n  - type: queue-scorer\n"
        gateway = self.started([(str(i), sims[i].port, labels[i]) for i in range(2)], plugins)
        gateway.wait_pods(2)
        self.assertEqual({self.asked(gateway) for _ in range(8)}, {"1"})


if __name__ == "__main__":
    harness.main()
