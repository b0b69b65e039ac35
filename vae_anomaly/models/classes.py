"""A model of normal rows and of kinds of anomalies, of which a few rows are labelled.

M2 of Kingma et al. (2014): a row has a class y, 0 for normal and 1, 2, ... for the kinds of
anomalies, and latents z:

    p(x, y, z | c) = p(y) p(z) p(x | z, y, c)      q(y, z | x, c) = q(y | x, c) q(z | x, y, c)

Normal rows have networks of their own. Were they shared with the anomalies, what is learnt of
those would make them easier to reconstruct as normal, and labels would hide what they are to find.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vae_anomaly.errors import InputError
from vae_anomaly.models.encoders import GaussianEncoder
from vae_anomaly.models.likelihoods import Likelihood, LocationScale, NormalLikelihood
from vae_anomaly.models.networks import Sizes, decoder_network, encoder_network
from vae_anomaly.models.overlapping import each_entry
from vae_anomaly.models.priors import PRIORS, Prior
from vae_anomaly.models.standardize import Batch
from vae_anomaly.models.vae import VAE, Model

__all__ = ["ClassVAE", "FaultDecoder"]

#: Networks are as wide as the highest label.
MOST_LABELS = 1000

#: Where shares that are all 0 are divided by their sum.
TINY = 1e-12


class FaultDecoder(nn.Module):
    """Likelihood p(x | z, y, c) of the kinds of anomalies; the class is the context's last columns.

    A kind's noise is never below that of normal rows: a handful of labelled rows would otherwise
    be learnt by heart, with a density that no other row of their kind reaches.
    """

    def __init__(self, sizes: Sizes, n_faults: int, normal: LocationScale) -> None:
        super().__init__()
        self.net = decoder_network(sizes, sizes.shape.n_features)
        self.log_excess = nn.Parameter(torch.zeros(n_faults, sizes.shape.n_features))
        self._normal = (normal,)  # in a tuple, for its weights are not this module's

    def forward(self, z: Tensor, context: Tensor) -> Likelihood:
        loc = self.net(z, context)
        code = context[..., -len(self.log_excess) :]
        excess = (code @ self.log_excess).exp()
        sigma = (self._normal[0].sigma.detach().square() + excess.square()).sqrt()
        return NormalLikelihood(loc, sigma.expand_as(loc))


class ClassVAE(Model):
    """Normal rows and kinds of anomalies: a VAE of each, and a classifier q(y | x, c).

    Latents are flat, (*, n, K + k): the probabilities of the K classes, then z; without kinds of
    anomalies z alone. A row's own latents are those that it has *as a normal row*, whatever its
    class: so its likelihood says how far it is from normal, and what normal would look like there.

    Parameters
    ----------
    sizes : Sizes
        With the highest label as ``shape.n_classes``; labels below it that no row bears are no
        classes: nothing is ever assigned to them.
    prior : {"standard", "conditional"}
        p(z | c), and p(z | y, c) of the kinds of anomalies.
    least_share : float
        Least prior probability of a class that a row bears.
    missing : float
        What encoders and classifier see in place of an entry that was not observed.

    References
    ----------
    Kingma, Rezende, Mohamed & Welling (2014), Semi-supervised Learning with Deep Generative Models.
    """

    counts: Tensor

    def __init__(
        self, sizes: Sizes, *, prior: Prior, least_share: float, missing: float = 0.0
    ) -> None:
        super().__init__()
        self.noise_dim, self.least_share, self.missing = sizes.latent_dim, least_share, missing
        self.n_faults = n_faults = sizes.shape.n_classes
        if n_faults > MOST_LABELS:
            raise InputError(
                f"the highest label is {n_faults}, and {MOST_LABELS} are allowed; number the kinds "
                "of anomalies from 1"
            )
        decoder, encoder = LocationScale(sizes), GaussianEncoder(sizes)  # as Gaussian draws them
        self.normal = VAE(encoder, decoder, PRIORS[prior](sizes), missing=missing)
        # rows that training saw: unlabelled, normal, of each kind
        self.register_buffer("counts", torch.zeros(n_faults + 2, dtype=torch.int64))
        if n_faults:
            shape = sizes.shape._replace(n_context=sizes.shape.n_context + n_faults)
            of_faults = sizes._replace(shape=shape)
            fault_decoder = FaultDecoder(of_faults, n_faults, decoder)
            fault_prior = PRIORS[prior](of_faults)
            fault_encoder = GaussianEncoder(of_faults)
            self.faults = VAE(fault_encoder, fault_decoder, fault_prior, missing=missing)
            self.classifier = encoder_network(sizes, n_faults + 1)

    # ------------------------------------------------------------------------------------ classes

    @property
    def known(self) -> Tensor:
        """The classes, in order, (K',) int64: 0, and the labels that training rows bore."""
        is_known = self.counts[1:] > 0
        is_known[0] = True
        return is_known.nonzero().squeeze(-1)

    @property
    def has_kinds(self) -> bool:
        """Whether training saw a labelled anomaly."""
        return len(self.known) > 1

    def count(self, label: Tensor) -> None:
        """Note labels of training rows, (*, n)."""
        label = label.flatten().clamp(min=-1)
        within = label[label <= self.n_faults]
        self.counts += torch.bincount(within + 1, minlength=len(self.counts))

    def log_prior(self) -> Tensor:
        """log p(y) of the known classes, (K',): their shares of the rows, none below the least.

        Rows without a label count as normal ones: kinds are rare, and labels of them are sought.
        """
        n_rows = torch.cat([self.counts[:2].sum(dim=0, keepdim=True), self.counts[2:]])
        share = n_rows[self.known] / n_rows.sum().clamp(min=1)
        share = share.clamp(min=self.least_share)
        return (share / share.sum()).log()

    def log_classes(self, batch: Batch) -> Tensor:
        """log q(y | x, c) of the known classes, (*, n, K').

        The classifier sees the logarithm of large values, as its own would grow without end.
        """
        if not self.n_faults:
            return batch.x.new_zeros(*batch.x.shape[:-1], 1)
        tame = each_entry(lambda x: x.sign() * x.abs().log1p(), self.seen(batch))
        logits: Tensor = self.classifier(tame, batch.context)
        return logits[..., self.known].log_softmax(dim=-1)

    def class_probabilities(self, batch: Batch) -> Tensor:
        """q(y | x, c), (*, n, K): normal, then each label; 0 where training had no such label."""
        known = self.log_classes(batch).exp()
        every = known.new_zeros(*known.shape[:-1], self.n_faults + 1)
        return every.index_copy(-1, self.known, known)

    def class_weights(self) -> Tensor:
        """(K',) what makes the known classes that rows bear weigh the same, 1 a row in the mean."""
        n_rows = self.counts[1:][self.known]
        equal = self.counts.sum() / ((n_rows > 0).sum() * n_rows).clamp(min=1)
        return torch.where(n_rows > 0, equal, 0.0)

    def evidence(self, batch: Batch) -> Tensor:
        """log q(y > 0 | x, c) - log q(0 | x, c), (*, n): for an anomaly; -inf without kinds."""
        log_q = self.log_classes(batch)
        return log_q[..., 1:].logsumexp(dim=-1) - log_q[..., 0]

    # ------------------------------------------------------------------------------------- latents

    def embed(self, batch: Batch) -> Tensor:
        return self._flat(self.normal.embed(batch), 0)

    def spread(self, batch: Batch) -> Tensor:
        z = self.normal.spread(batch)
        return torch.cat([z.new_zeros(*z.shape[:-1], self._n_codes), z], dim=-1)

    def likelihood(self, z: Tensor, context: Tensor) -> Likelihood:
        """p(x | z, y, c) of flat latents; between classes, mean and noise lie between theirs."""
        codes, z = z[..., : self._n_codes], z[..., self._n_codes :]
        normal = self.normal.likelihood(z, context)
        if not self.n_faults:
            return normal
        kinds = codes[..., 1:].clamp(min=0)
        share = kinds.sum(dim=-1, keepdim=True)
        kinds = kinds / share.clamp(min=TINY)
        fault = self.faults.likelihood(z, told(context, kinds))
        weight = share / (share + codes[..., :1].clamp(min=0)).clamp(min=TINY)
        return NormalLikelihood(
            torch.lerp(normal.mean, fault.mean, weight),
            torch.lerp(normal.stddev, fault.stddev, weight),
        )

    def draw(self, context: Tensor, generator: torch.Generator, label: int = 0) -> Tensor:
        """Latents of new rows of a class, normal by default, (*, n, K + k).

        Raises
        ------
        InputError
            No training row bore the label.
        """
        if label not in (known := self.known.tolist()):
            raise InputError(
                f"label {label} is no class of this model; it learnt {', '.join(map(str, known))}"
            )
        if label == 0:
            return self._flat(self.normal.draw(context, generator), 0)
        code = torch.eye(self.n_faults)[label - 1].expand(*context.shape[:-1], -1)
        return self._flat(self.faults.draw(told(context, code), generator), label)

    def as_faults(self, batch: Batch) -> Batch:
        """Every row once as each known kind, (K' - 1, *, n, ...), for the VAE of the kinds."""
        kinds = self.known[1:] - 1
        stacked = Batch(*(part.expand(len(kinds), *part.shape) for part in batch))
        code = torch.eye(self.n_faults)[kinds]  # (K' - 1, K - 1)
        code = code.reshape(len(kinds), *[1] * (batch.x.dim() - 1), self.n_faults)
        code = code.expand(*stacked.context.shape[:-1], -1)
        return stacked._replace(context=told(stacked.context, code))

    def log_weights(self, batch: Batch, noise: Tensor) -> Tensor:
        """As of every model, with the classes summed over: a row's labels do not matter."""
        normal = self.normal.log_weights(batch, noise)[:, None]  # (s, 1, *, n)
        if not self.n_faults:
            return normal.squeeze(1)
        faults = self.faults.log_weights(self.as_faults(batch), noise[:, None])
        log_prior = self.log_prior().reshape(-1, *[1] * (batch.x.dim() - 1))
        return (torch.cat([normal, faults], dim=1) + log_prior).logsumexp(dim=1)

    def figures(self, batch: Batch) -> dict[str, float]:
        """Those of the VAE of normal rows, and, where rows bear a label, how many are told right.

        ``class_accuracy`` is the mean over the labels, so that a rare one counts like the others.
        """
        figures = self.normal.figures(batch)
        found = self.class_probabilities(batch).argmax(dim=-1)
        labels = [label for label in self.known.tolist() if (batch.label == label).any()]
        if len(labels) > 1:
            right = [(found == label)[batch.label == label].float().mean() for label in labels]
            figures["class_accuracy"] = float(torch.stack(right).mean())
        return figures

    @property
    def _n_codes(self) -> int:
        return self.n_faults + 1 if self.n_faults else 0

    def _flat(self, z: Tensor, label: int) -> Tensor:
        """Latents z (*, n, k) of a class with its code before them."""
        code = torch.eye(self.n_faults + 1)[label, : self._n_codes]
        return torch.cat([code.expand(*z.shape[:-1], -1), z], dim=-1)


def told(context: Tensor, code: Tensor) -> Tensor:
    """The context (*, n, c) with the code of a kind (s, *, n, K - 1) as its last columns."""
    return torch.cat([context.expand(*code.shape[:-1], -1), code], dim=-1)
