"""What a picture may show beside the loss."""


def top5(outputs, targets):
    """The share of tokens that are not among the five likeliest."""
    likeliest = outputs.topk(5).indices
    return (likeliest != targets[..., None]).all(-1).double().mean(1)
